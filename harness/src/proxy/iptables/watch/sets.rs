// SPDX-License-Identifier: Apache-2.0
//! Members of ipset's sets, asked one by one: a set may have ten thousand.

use std::cell::RefCell;
use std::collections::HashMap;

use super::condition::SetMatch;
use super::packet::Packet;
use super::replay::{Member, SetLook};
use crate::net::{Netns, Tool};

/// Kind of a set, `hash:ip,port`, and its size.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kind {
    name: String,
    members: u32,
}

/// Asks the kernel, each question once.
#[derive(Debug)]
pub(super) struct Sets<'a> {
    netns: &'a Netns,
    kinds: RefCell<HashMap<String, Option<Kind>>>,
    answers: RefCell<HashMap<(String, String), bool>>,
}

impl<'a> Sets<'a> {
    pub(super) fn new(netns: &'a Netns) -> Self {
        Self { netns, kinds: RefCell::default(), answers: RefCell::default() }
    }

    fn ask(&self, args: &[&str]) -> Option<String> {
        Tool::new("ipset").args(args.iter().copied()).run_on(self.netns).ok()
    }

    fn kind(&self, set: &str) -> Option<Kind> {
        let mut kinds = self.kinds.borrow_mut();
        let ask = || kind(&self.ask(&["list", set, "-terse"])?);
        kinds.entry(set.to_owned()).or_insert_with(ask).clone()
    }

    fn contains(&self, set: &str, member: &str) -> bool {
        let mut answers = self.answers.borrow_mut();
        let question = (set.to_owned(), member.to_owned());
        *answers.entry(question).or_insert_with(|| self.ask(&["test", set, member]).is_some())
    }
}

impl SetLook for Sets<'_> {
    fn look(&self, set: &SetMatch, packet: &Packet) -> Option<Option<Member>> {
        let kind = self.kind(&set.name)?;
        let Some(member) = member(&kind.name, &set.parts, packet)? else { return Some(None) };
        let found = self.contains(&set.name, &member);
        Some(found.then(|| (set.name.clone(), member, kind.members)))
    }
}

/// Reads `ipset list NAME -terse`.
fn kind(listing: &str) -> Option<Kind> {
    let value = |label: &str| listing.lines().find_map(|line| line.strip_prefix(label));
    Some(Kind {
        name: value("Type: ")?.trim().to_owned(),
        members: value("Number of entries: ")?.trim().parse().ok()?,
    })
}

/// What a packet is looked up as, in ipset's words; `Some(None)` if a set of that kind cannot hold
/// it, `None` if the kind is not known.
fn member(kind: &str, parts: &str, packet: &Packet) -> Option<Option<String>> {
    let (_, kinds) = kind.split_once(':')?;
    let kinds: Vec<&str> = kinds.split(',').collect();
    let parts: Vec<&str> = parts.split(',').collect();
    if kinds.len() != parts.len() {
        return None;
    }
    let protocol = match packet.protocol {
        6 => "tcp",
        17 => "udp",
        _ => return Some(None),
    };
    let mut words = Vec::new();
    for (kind_part, part) in kinds.iter().zip(parts) {
        let end = match part {
            "src" => packet.source,
            "dst" => packet.destination,
            _ => return None,
        };
        words.push(match *kind_part {
            "ip" | "net" => end.ip().to_string(),
            "port" if kinds.len() == 1 => end.port().to_string(),
            "port" => format!("{protocol}:{}", end.port()),
            _ => return None,
        });
    }
    Some(Some(words.join(",")))
}

#[cfg(test)]
mod tests {
    use super::super::packet::State;
    use super::*;

    #[test]
    fn a_set_is_described_by_its_terse_listing() {
        let listing = "Name: KUBE-CLUSTER-IP\nType: hash:ip,port\nRevision: 7\nHeader: family inet \
                       hashsize 1024 maxelem 65536 bucketsize 12 initval 0xe8fbc2b4\nSize in \
                       memory: 960\nReferences: 3\nNumber of entries: 12\n";
        let expected = Kind { name: "hash:ip,port".to_owned(), members: 12 };
        assert_eq!(kind(listing), Some(expected));
        assert_eq!(kind(""), None);
    }

    #[test]
    fn a_packet_is_looked_up_as_its_rule_says() {
        let packet = Packet {
            protocol: 6,
            source: "10.244.0.2:40000".parse().unwrap(),
            destination: "10.96.0.1:80".parse().unwrap(),
            mark: 0,
            source_local: false,
            destination_local: true,
            state: State::New,
            dnat: false,
        };
        let looked_up = |kind, parts| member(kind, parts, &packet).flatten().unwrap_or_default();
        assert_eq!(looked_up("hash:ip,port", "dst,dst"), "10.96.0.1,tcp:80");
        assert_eq!(looked_up("hash:ip,port,ip", "dst,dst,src"), "10.96.0.1,tcp:80,10.244.0.2");
        assert_eq!(looked_up("bitmap:port", "dst"), "80");
        assert_eq!(looked_up("hash:ip", "dst"), "10.96.0.1");
        assert_eq!(member("hash:mac", "src", &packet), None);
        let ping = Packet { protocol: 1, ..packet };
        assert_eq!(member("bitmap:port", "dst", &ping), Some(None));
    }
}
