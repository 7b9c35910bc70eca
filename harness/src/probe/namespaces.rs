// SPDX-License-Identifier: Apache-2.0
//! Network namespaces of a node's pods, found by the pods' addresses.
//!
//! Container runtimes keep files of namespaces in places of their own and name control groups as they
//! like; a process is in its namespace wherever it runs. `/proc/PID/net` is of the process' namespace
//! (`fs/proc/proc_net.c`), so that no namespace has to be entered to be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Most processes looked at: as many as Linux numbers on machines of 32 bits, and more than nodes have.
const PROCESSES_MAX: usize = 1 << 17;
/// Most namespaces looked at. Nodes have a few hundred pods.
const NAMESPACES_MAX: usize = 4_096;
/// Most that is read of a namespace's addresses, bytes; a node that has more is not a pod.
const TRIE_MAX: u64 = 1 << 20;

/// The namespaces in which these addresses are a host's own, by address, as far as a process below
/// `proc` is in one.
///
/// # Errors
/// `proc` cannot be listed.
pub fn find(proc: &Path, addresses: &BTreeSet<IpAddr>) -> io::Result<BTreeMap<IpAddr, OwnedFd>> {
    let (mut found, mut seen) = (BTreeMap::new(), BTreeSet::new());
    for entry in fs::read_dir(proc)?.take(PROCESSES_MAX) {
        let Ok(entry) = entry else { continue };
        let is_process = entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        if !is_process || found.len() == addresses.len() || seen.len() == NAMESPACES_MAX {
            continue;
        }
        // A process that has ended meanwhile is in none, and one that may not be looked at is none
        // of ours.
        let Ok(namespace) = File::open(entry.path().join("ns/net")) else { continue };
        let Ok(number) = namespace.metadata().map(|metadata| metadata.ino()) else { continue };
        if !seen.insert(number) {
            continue;
        }
        let Ok(trie) = trie(&entry.path()) else { continue };
        for address in own_addresses(&trie).filter(|address| addresses.contains(address)) {
            if let Ok(copy) = namespace.try_clone() {
                found.insert(address, copy.into());
            }
        }
    }
    Ok(found)
}

/// The table of a process' namespace in which its own addresses are.
fn trie(process: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(process.join("net/fib_trie"))?.take(TRIE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Addresses that the kernel delivers to the host itself (`net/ipv4/fib_trie.c`,
/// `fib_trie_seq_show()`): a leaf's address on one line, what it is to on those below.
fn own_addresses(trie: &str) -> impl Iterator<Item = IpAddr> {
    let mut leaf = None;
    trie.lines().filter_map(move |line| {
        let line = line.trim_start();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.trim_end().parse().ok();
            return None;
        }
        line.starts_with("/32 host LOCAL").then_some(leaf).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIE: &str = "\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     |-- 10.244.1.1
        /32 link UNICAST
Local:
  +-- 0.0.0.0/0 2 0 2
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     |-- 10.244.1.5
        /32 host LOCAL
";

    #[test]
    fn own_addresses_are_those_delivered_here_and_not_those_on_the_way() {
        let own: Vec<_> = own_addresses(TRIE).map(|address| address.to_string()).collect();
        assert_eq!(own, ["127.0.0.1", "10.244.1.5"]);
    }

    #[test]
    fn what_nobody_has_is_not_found() {
        let nobody = BTreeSet::from([IpAddr::from([192, 0, 2, 77])]);
        assert!(find(Path::new("/proc"), &nobody).unwrap().is_empty());
    }
}
