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
        let bytes = tuple().to_bytes();
        assert_eq!(bytes[..12], [10, 8, 0, 2, 10, 96, 0, 1, 0x9c, 0x40, 0, 80]);
        assert_eq!(bytes[12..], 6u32.to_ne_bytes());
        assert_eq!(Tuple::from_bytes(&bytes), Some(tuple()));
        assert_eq!(Tuple::from_bytes(&bytes[1..]), None);
    }

    #[test]
    fn a_connection_of_an_unknown_state_is_none() {
        let mut bytes = [0; Connection::BYTES];
        bytes[..16].copy_from_slice(&tuple().to_bytes());
        bytes[56] = State::Reset as u8;
        assert_eq!(Connection::from_bytes(&bytes).map(|c| c.state), Some(State::Reset));
        bytes[56] = 6;
        assert_eq!(Connection::from_bytes(&bytes), None);
    }
}
