// SPDX-License-Identifier: Apache-2.0
//! The text, and what it has to mean.

use super::super::{Fill, Policy, sample};
use super::*;
use crate::plan::Position;

const NODE_ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 0, 11));

#[test]
fn every_kind_of_service_is_a_line_for_each_of_its_addresses() {
    let texts = Ebpf::default().render(&sample::every_kind(), sample::NODE, NODE_ADDRESS);
    assert_eq!(texts.len(), 1);
    insta::assert_snapshot!(texts[0].text);
}

#[test]
fn a_service_that_is_added_changes_nothing_of_those_before_it() {
    let mut table = sample::every_kind();
    let before = Plan::of(&table, sample::NODE, NODE_ADDRESS);
    let mut added = sample::every_kind().services.remove(1);
    added.name = "added".to_owned();
    table.services.push(added);
    let after = Plan::of(&table, sample::NODE, NODE_ADDRESS);
    assert_eq!(after.ports[..before.ports.len()], before.ports);
    assert_eq!(after.ports.len(), before.ports.len() + 2);
}

#[test]
fn no_endpoint_belongs_to_two_ports() {
    let fill = Fill { services: 500, endpoints: 3, position: Position::Last, seed: 3 };
    let table = fill.table(vec![sample::plain()]).expect("fits");
    let plan = Plan::of(&table, sample::NODE, NODE_ADDRESS);
    let mut next = 0;
    for port in &plan.ports {
        assert_eq!(port.first, next, "{}", port.name);
        next += port.targets.len() as u32;
    }
    assert_eq!(next, plan.endpoints());
}

#[test]
fn under_a_local_policy_only_endpoints_here_are_counted_and_they_stand_first() {
    let mut table = ServiceTable { services: vec![sample::plain()] };
    let service = &mut table.services[0];
    service.internal_policy = Policy::Local;
    // The one that is here comes second.
    service.ports[0].endpoints.reverse();
    let plan = Plan::of(&table, sample::NODE, NODE_ADDRESS);
    let port = &plan.ports[0];
    assert_eq!((port.frontends[0].inside, port.frontends[0].outside), (1, 1));
    assert_eq!(port.targets.iter().map(|t| t.here).collect::<Vec<_>>(), [true, false]);
}

#[cfg(feature = "bpf")]
mod bytes {
    use super::super::connection::{Connection, State, Tuple};

    fn tuple() -> Tuple {
        Tuple {
            source: "10.8.0.2:40000".parse().expect("an address"),
            destination: "10.96.0.1:80".parse().expect("an address"),
            protocol: 6,
        }
    }

    #[test]
    fn a_tuple_is_laid_out_as_the_program_reads_it() {
        let packed = tuple().packed();
        let bytes = packed.as_ref();
        assert_eq!(bytes[..12], [10, 8, 0, 2, 10, 96, 0, 1, 0x9c, 0x40, 0, 80]);
        assert_eq!(bytes[12..], 6u32.to_ne_bytes());
    }

    /// What the program writes: a tuple, two times, the way, three numbers, the state.
    fn connection(tuple: Tuple, state: u8) -> Vec<u8> {
        let hop = if tuple.source.is_ipv4() { 4 } else { 16 };
        let words = [7u32, 8, 9].map(u32::to_ne_bytes);
        let mut bytes = tuple.packed().as_ref().to_vec();
        bytes.extend(5u64.to_ne_bytes());
        bytes.extend(vec![0; 8 + 4 + hop + 4]);
        bytes.extend(words.as_flattened());
        bytes.extend([state, 0, 0, 0, 0, 0, 0, 0]);
        // As long as its longest field asks for.
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn a_connection_of_either_family_is_read_and_one_of_an_unknown_state_is_none() {
        let six = Tuple {
            source: "[fd00:10:8::2]:40000".parse().expect("an address"),
            destination: "[fd00:10:96::1]:80".parse().expect("an address"),
            protocol: 6,
        };
        for tuple in [tuple(), six] {
            let bytes = connection(tuple, State::Reset as u8);
            let read = Connection::from_bytes(&bytes).expect("one");
            assert_eq!((read.becomes, read.state), (tuple, State::Reset));
            assert_eq!((read.seen_ns, read.service, read.endpoint, read.packets), (5, 7, 8, 9));
            assert_eq!(Connection::from_bytes(&bytes[1..]), None);
            assert_eq!(Connection::from_bytes(&connection(tuple, 6)), None);
        }
    }
}
