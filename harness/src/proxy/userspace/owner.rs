// SPDX-License-Identifier: Apache-2.0
//! Whether a listening socket is a process's own, by the kernel's word.

use std::fs;
use std::io::{self, BufRead, BufReader};

use crate::net::Netns;
use crate::plan::IpFamily;

/// `TCP_LISTEN` as `/proc/net/tcp` and `tcp6` show it.
const LISTEN: &str = "0A";

/// Whether process `pid` holds the socket that listens at `port` in the namespace.
///
/// # Errors
/// `/proc` cannot be read.
pub(super) fn listens(netns: &Netns, pid: u32, port: u16, family: IpFamily) -> io::Result<bool> {
    let table = match family {
        IpFamily::Ipv4 => "/proc/thread-self/net/tcp",
        IpFamily::Ipv6 => "/proc/thread-self/net/tcp6",
    };
    let Some(inode) = netns.run(move || listening_inode(table, port))? else { return Ok(false) };
    let socket = format!("socket:[{inode}]");
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A descriptor may be closed between the listing and the look.
        if let Ok(target) = fs::read_link(entry?.path())
            && target.to_str() == Some(&socket)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn listening_inode(table: &str, port: u16) -> io::Result<Option<String>> {
    let table = BufReader::new(fs::File::open(table)?);
    for line in table.lines().skip(1) {
        if let Some(inode) = inode_if_listening(&line?, port) {
            return Ok(Some(inode));
        }
    }
    Ok(None)
}

/// Columns: slot, local address, remote address, state, queues, timer, retransmits, user, timeout,
/// inode (`get_tcp4_sock` and `get_tcp6_sock` in the kernel's net).
fn inode_if_listening(line: &str, port: u16) -> Option<String> {
    let mut words = line.split_whitespace();
    let local = words.nth(1)?;
    let state = words.nth(1)?;
    let inode = words.nth(5)?;
    let (_, local_port) = local.split_once(':')?;
    let same = u16::from_str_radix(local_port, 16).ok()? == port;
    (same && state == LISTEN).then(|| inode.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inode_of_a_listening_socket_is_found_in_its_line() {
        let line = "   1: 00000000:0801 00000000:0000 0A 00000000:00000000 00:00000000 00000000     \
                    0        0 123456 1 0000000000000000 100 0 0 10 0";
        assert_eq!(inode_if_listening(line, 0x801), Some("123456".to_owned()));
        assert_eq!(inode_if_listening(line, 0x802), None);
        assert_eq!(inode_if_listening(&line.replace(" 0A ", " 01 "), 0x801), None);
    }
}
