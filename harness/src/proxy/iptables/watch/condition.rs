// SPDX-License-Identifier: Apache-2.0
//! A rule's text as a condition on a packet and what becomes of the packet then. Matches that can
//! be decided from the packet are; the others are left to the rule's counter. Pure, and bounded by
//! the input.

use std::net::IpAddr;

use super::packet::{Packet, State};
use crate::net::Cidr;
use crate::net::addresses::{bits_of, family, number};

/// Whether a packet meets a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Yes,
    No,
    /// Only the kernel knows: chance, memory, interfaces.
    Unknown,
}

impl Verdict {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            _ => Self::Yes,
        }
    }

    fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    fn negated(self, negated: bool) -> Self {
        match self {
            Self::Yes if negated => Self::No,
            Self::No if negated => Self::Yes,
            as_is => as_is,
        }
    }
}

/// What becomes of a packet that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// It goes on to the next rule.
    Continue,
    /// So it does, with another mark.
    Mark { value: u32, mask: u32 },
    /// It goes through a chain and comes back.
    Jump(String),
    /// It goes through a chain and comes back to where this one was jumped to from.
    Goto(String),
    /// Back to where this chain was jumped to from; to the policy from a built-in one.
    Return,
    /// The table is done with it.
    Accept,
    /// It is translated, and the table is done with it; `Some` is where to.
    Translate { to: Option<String> },
    /// It ends here.
    Refuse,
    /// Nothing this code knows.
    Strange(String),
}

/// A look into a set: name and which parts of the packet make the member, `dst,dst`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SetMatch {
    pub(super) name: String,
    pub(super) parts: String,
    pub(super) negated: bool,
}

/// A rule, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    tests: Vec<(Test, bool)>,
    pub(super) sets: Vec<SetMatch>,
    pub(super) target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Source(IpAddr, IpAddr),
    Destination(IpAddr, IpAddr),
    Protocol(String),
    SourcePort(u16, u16),
    DestinationPort(u16, u16),
    Mark(u32, u32),
    States(Vec<String>),
    SourceLocal,
    DestinationLocal,
    Unknown,
}

/// Modules whose options are read one by one, and that match by themselves.
const READ: [&str; 8] = ["comment", "tcp", "udp", "conntrack", "state", "mark", "addrtype", "set"];
/// Targets after which a packet goes on to the next rule.
const GOING_ON: [&str; 14] = [
    "CHECKSUM", "CLASSIFY", "CONNMARK", "CT", "DSCP", "LOG", "NFLOG", "NOTRACK", "SET", "TCPMSS",
    "TEE", "TOS", "TRACE", "TTL",
];
const TRANSLATING: [&str; 5] = ["DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP"];

impl Condition {
    /// Reads `-A CHAIN ...`. `is_chain` tells chains from the kernel's own targets.
    pub(super) fn read(rule: &str, is_chain: impl Fn(&str) -> bool) -> Self {
        let words = words(rule);
        let mut condition = Self { tests: Vec::new(), sets: Vec::new(), target: Target::Continue };
        let mut rest = words.iter().map(String::as_str).skip(2);
        let mut negated = false;
        while let Some(word) = rest.next() {
            if word == "!" {
                negated = true;
                continue;
            }
            match word {
                "-j" | "-g" => {
                    let name = rest.next().unwrap_or_default();
                    let options: Vec<&str> = rest.collect();
                    condition.target = target(word, name, &options, is_chain);
                    break;
                }
                "--match-set" => {
                    let [name, parts] = [(); 2].map(|()| rest.next().unwrap_or_default());
                    let (name, parts) = (name.to_owned(), parts.to_owned());
                    condition.sets.push(SetMatch { name, parts, negated });
                }
                "--comment" => drop(rest.next()),
                "-m" if rest.clone().next().is_some_and(|module| READ.contains(&module)) => {
                    rest.next();
                }
                option if option.starts_with('-') => {
                    // A value never looks like an option; an option without one is not known.
                    let value = rest.clone().next().unwrap_or_default();
                    condition.tests.push((test(option, value), negated));
                }
                _ => {}
            }
            negated = false;
        }
        condition
    }

    /// Whether a packet meets it; `member` says whether something is in a set.
    pub(super) fn met_by(
        &self,
        packet: &Packet,
        member: &dyn Fn(&SetMatch, &Packet) -> Option<bool>,
    ) -> Verdict {
        let mut all = Verdict::Yes;
        for (test, negated) in &self.tests {
            all = all.and(test.met_by(packet).negated(*negated));
        }
        if all == Verdict::No {
            return all;
        }
        for set in &self.sets {
            let is_in = member(set, packet).map_or(Verdict::Unknown, Verdict::of);
            all = all.and(is_in.negated(set.negated));
        }
        all
    }
}

impl Test {
    fn met_by(&self, packet: &Packet) -> Verdict {
        let within = |address: IpAddr, network: &IpAddr, mask: &IpAddr| {
            let kept = |address| number(address) & number(*mask);
            let same = family(address) == family(*network);
            Verdict::of(same && kept(address) == kept(*network))
        };
        match self {
            Self::Source(network, mask) => within(packet.source.ip(), network, mask),
            Self::Destination(network, mask) => within(packet.destination.ip(), network, mask),
            Self::Protocol(name) => match (name.as_str(), packet.protocol) {
                ("tcp", 6) | ("udp", 17) | ("all", _) => Verdict::Yes,
                ("tcp" | "udp" | "sctp" | "icmp", _) => Verdict::No,
                _ => Verdict::Unknown,
            },
            Self::SourcePort(low, high) => {
                Verdict::of((*low..=*high).contains(&packet.source.port()))
            }
            Self::DestinationPort(low, high) => {
                Verdict::of((*low..=*high).contains(&packet.destination.port()))
            }
            Self::Mark(value, mask) => Verdict::of(packet.mark & mask == *value),
            Self::States(states) => Verdict::of(states.iter().any(|name| match name.as_str() {
                "NEW" => packet.state == State::New,
                // Without an entry in connection tracking a packet counts as invalid
                // (`conntrack_mt`, net/netfilter/xt_conntrack.c).
                "INVALID" => packet.state == State::Untracked,
                "DNAT" => packet.dnat,
                _ => false,
            })),
            Self::SourceLocal => Verdict::of(packet.source_local),
            Self::DestinationLocal => Verdict::of(packet.destination_local),
            Self::Unknown => Verdict::Unknown,
        }
    }
}

fn test(option: &str, value: &str) -> Test {
    let read = match option {
        "-s" => network(value).map(|(network, mask)| Test::Source(network, mask)),
        "-d" => network(value).map(|(network, mask)| Test::Destination(network, mask)),
        "-p" => Some(Test::Protocol(value.to_owned())),
        "--sport" => ports(value).map(|(low, high)| Test::SourcePort(low, high)),
        "--dport" => ports(value).map(|(low, high)| Test::DestinationPort(low, high)),
        "--mark" => masked(value).map(|(value, mask)| Test::Mark(value, mask)),
        "--ctstate" | "--state" => {
            Some(Test::States(value.split(',').map(str::to_owned).collect()))
        }
        "--src-type" if value == "LOCAL" => Some(Test::SourceLocal),
        "--dst-type" if value == "LOCAL" => Some(Test::DestinationLocal),
        _ => None,
    };
    read.unwrap_or(Test::Unknown)
}

fn target(flag: &str, name: &str, options: &[&str], is_chain: impl Fn(&str) -> bool) -> Target {
    let option = |wanted: &str| {
        let mut pairs = options.iter().zip(options.iter().skip(1));
        pairs.find(|(option, _)| **option == wanted).map(|(_, value)| *value)
    };
    match name {
        chain if is_chain(chain) && flag == "-g" => Target::Goto(chain.to_owned()),
        chain if is_chain(chain) => Target::Jump(chain.to_owned()),
        "RETURN" => Target::Return,
        "ACCEPT" => Target::Accept,
        "DROP" | "REJECT" => Target::Refuse,
        "MARK" => match option("--set-xmark").and_then(masked) {
            Some((value, mask)) => Target::Mark { value, mask },
            None => Target::Strange(format!("MARK {}", options.join(" "))),
        },
        name if TRANSLATING.contains(&name) => {
            Target::Translate { to: option("--to-destination").map(str::to_owned) }
        }
        name if GOING_ON.contains(&name) => Target::Continue,
        name => Target::Strange(name.to_owned()),
    }
}

fn network(text: &str) -> Option<(IpAddr, IpAddr)> {
    let (address, mask) = match text.split_once('/') {
        Some((address, mask)) => (address.parse().ok()?, Some(mask)),
        None => (text.parse().ok()?, None),
    };
    let bits = bits_of(family(address));
    let mask = match mask.map(|mask| (mask, mask.parse::<u8>())) {
        None => Cidr::mask(family(address), bits),
        Some((_, Ok(length))) if length <= bits => Cidr::mask(family(address), length),
        Some((mask, _)) => mask.parse().ok().filter(|&mask| family(mask) == family(address))?,
    };
    Some((address, mask))
}

fn ports(text: &str) -> Option<(u16, u16)> {
    match text.split_once(':') {
        Some((low, high)) => Some((low.parse().ok()?, high.parse().ok()?)),
        None => text.parse().ok().map(|port| (port, port)),
    }
}

/// `0x4000/0x4000`; without a mask all bits count.
fn masked(text: &str) -> Option<(u32, u32)> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    Some((number(value)?, number(mask)?))
}

/// Splits at blanks outside of quotation marks, as `xtables_save_string` writes them: a backslash
/// before a quotation mark or a backslash stands for that sign.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut any, mut quoted) = (String::new(), false, false);
    let mut signs = line.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '"' => (quoted, any) = (!quoted, true),
            '\\' if quoted => word.extend(signs.next()),
            ' ' if !quoted => {
                if any {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            sign => {
                word.push(sign);
                any = true;
            }
        }
    }
    if any {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet() -> Packet {
        Packet {
            protocol: 6,
            source: "10.8.0.1:40000".parse().unwrap(),
            destination: "10.96.0.1:80".parse().unwrap(),
            mark: 0,
            source_local: false,
            destination_local: false,
            state: State::New,
            dnat: false,
        }
    }

    fn met(rule: &str, packet: &Packet) -> Verdict {
        Condition::read(rule, |_| false).met_by(packet, &|_, _| None)
    }

    #[test]
    fn matches_of_kube_proxys_rules_are_decided_from_the_packet() {
        let syn = packet();
        for (rule, verdict) in [
            (
                "-A X -d 10.96.0.1/32 -p tcp -m comment --comment \"a -s b\" -m tcp --dport 80 -j Y",
                Verdict::Yes,
            ),
            ("-A X -d 10.96.0.2/32 -p tcp -m tcp --dport 80 -j Y", Verdict::No),
            ("-A X ! -s 10.244.0.0/16 -j Y", Verdict::Yes),
            ("-A X -s 10.8.0.0/16 -p udp -j Y", Verdict::No),
            ("-A X -m conntrack --ctstate NEW -j Y", Verdict::Yes),
            ("-A X -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP", Verdict::Yes),
            ("-A X -m mark ! --mark 0x4000/0x4000 -j RETURN", Verdict::Yes),
            ("-A X -m mark --mark 0x4000/0x4000 -j ACCEPT", Verdict::No),
            ("-A X -m addrtype --dst-type LOCAL -j Y", Verdict::No),
            ("-A X -p tcp -m tcp --dport 1:79 -j Y", Verdict::No),
            ("-A X -m statistic --mode random --probability 0.5 -j Y", Verdict::Unknown),
            ("-A X -d 1.1.1.1/32 -m statistic --mode random --probability 0.5 -j Y", Verdict::No),
            ("-A X -i eth0 -j Y", Verdict::Unknown),
            ("-A X -m recent --set --name Z --mask 255.255.255.255 --rsource", Verdict::Unknown),
            ("-A X", Verdict::Yes),
        ] {
            assert_eq!(met(rule, &syn), verdict, "{rule}");
        }
        let marked = Packet { mark: 0x4000, dnat: true, ..packet() };
        assert_eq!(met("-A X -m mark --mark 0x4000/0x4000 -j ACCEPT", &marked), Verdict::Yes);
        assert_eq!(met("-A X -m conntrack ! --ctstate DNAT -j DROP", &marked), Verdict::No);
    }

    #[test]
    fn targets_are_told_from_chains() {
        let read = |rule: &str| Condition::read(rule, |name| name.starts_with("KUBE-")).target;
        assert_eq!(read("-A X -j KUBE-SVC"), Target::Jump("KUBE-SVC".to_owned()));
        assert_eq!(read("-A X -g KUBE-SVC"), Target::Goto("KUBE-SVC".to_owned()));
        assert_eq!(
            read("-A X -p tcp -j DNAT --to-destination 10.0.0.1:80"),
            Target::Translate { to: Some("10.0.0.1:80".to_owned()) }
        );
        assert_eq!(
            read("-A X -j MARK --set-xmark 0x4000/0x0"),
            Target::Mark { value: 0x4000, mask: 0 }
        );
        assert_eq!(read("-A X -j QUEUE"), Target::Strange("QUEUE".to_owned()));
        assert_eq!(read("-A X -m comment --comment \"-j DROP \\\" -j DROP\""), Target::Continue);
    }

    proptest! {
        #[test]
        fn any_rule_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = met(&String::from_utf8_lossy(&bytes), &packet());
        }

        #[test]
        fn any_options_are_read_without_a_panic(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "-A", "!", "-s", "-d", "-p", "-m", "-j", "-g", "--mark", "--ctstate", "0x",
                    "--dport", "1:", "/33", "1.1.1.1/0", "--match-set", "\"", "MARK", "set",
                    "--set-xmark", "LOCAL", "--dst-type",
                ]),
                0..12,
            ),
        ) {
            let _ = met(&words.join(" "), &packet());
        }
    }
}
