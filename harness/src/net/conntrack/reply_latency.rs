// SPDX-License-Identifier: Apache-2.0
//! How long flows waited for their first answer, from conntrack events: what
//! github.com/npinaeva/conntrack-metrics measures, and the Kubernetes blog's nftables chart plots.

use std::collections::HashMap;

use super::events::{Event, EventKind, EventTime};
use super::flow::Tuple;

/// First answers of flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplyLatencies {
    /// For each answered flow, its original tuple and ns from its first packet to its first
    /// answer, in order of the answers.
    pub pairs: Vec<(Tuple, u64)>,
    /// Flows that began and had no answer by the end of the events.
    pub unanswered: u64,
    /// Flows whose two times cannot be subtracted: by different observers, or in the wrong order
    /// because the clock was set.
    pub incomparable: u64,
}

/// Pairs each flow's `New` with the first `Update` that has seen a reply. Flows that began before
/// the events did are left out.
pub fn new_to_seen_reply(events: &[Event]) -> ReplyLatencies {
    let mut latencies = ReplyLatencies::default();
    let mut waiting: HashMap<(Tuple, Option<u32>), EventTime> = HashMap::new();
    for Event { kind, flow, at } in events {
        let key = (flow.original, flow.id);
        match kind {
            EventKind::New => {
                // Events that were lost may have left an older flow of the same name.
                if waiting.insert(key, *at).is_some() {
                    latencies.unanswered += 1;
                }
            }
            EventKind::Update if flow.is_answered() => {
                let Some(began) = waiting.remove(&key) else { continue };
                match between(began, *at) {
                    Some(ns) => latencies.pairs.push((flow.original, ns)),
                    None => latencies.incomparable += 1,
                }
            }
            EventKind::Update => {}
            EventKind::Destroy => {
                latencies.unanswered += u64::from(waiting.remove(&key).is_some());
            }
        }
    }
    latencies.unanswered += waiting.len() as u64;
    latencies
}

fn between(began: EventTime, answered: EventTime) -> Option<u64> {
    match (began, answered) {
        (EventTime::Kernel(began), EventTime::Kernel(answered))
        | (EventTime::Received(began), EventTime::Received(answered)) => {
            answered.checked_sub(began)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use super::super::flow::{Flow, Status};
    use super::*;

    fn flow(port: u16, id: u32, status: Status) -> Flow {
        let client = SocketAddr::new(IpAddr::from([10, 8, 0, 1]), port);
        let server = SocketAddr::new(IpAddr::from([10, 96, 0, 1]), 80);
        Flow {
            original: Tuple::tcp(client, server),
            reply: Tuple::tcp(server, client),
            status: Some(status),
            id: Some(id),
            ..Flow::default()
        }
    }

    fn event(kind: EventKind, port: u16, id: u32, status: Status, ns: u64) -> Event {
        Event { kind, flow: flow(port, id, status), at: EventTime::Kernel(ns) }
    }

    const QUIET: Status = Status(0);

    #[test]
    fn the_first_answer_counts_and_later_ones_do_not() {
        let events = [
            event(EventKind::New, 1, 7, QUIET, 100),
            event(EventKind::Update, 1, 7, QUIET, 110),
            event(EventKind::Update, 1, 7, Status::SEEN_REPLY, 150),
            event(EventKind::Update, 1, 7, Status(0b110), 190),
            event(EventKind::Destroy, 1, 7, Status(0b110), 300),
        ];
        let latencies = new_to_seen_reply(&events);
        assert_eq!(latencies.pairs, [(events[0].flow.original, 50)]);
        assert_eq!((latencies.unanswered, latencies.incomparable), (0, 0));
    }

    #[test]
    fn flows_that_use_one_tuple_in_turn_are_told_apart() {
        let events = [
            event(EventKind::New, 1, 7, QUIET, 100),
            event(EventKind::Destroy, 1, 7, QUIET, 200),
            event(EventKind::New, 1, 8, QUIET, 1_000),
            event(EventKind::Update, 1, 8, Status::SEEN_REPLY, 1_040),
            // Began before the recording.
            event(EventKind::Update, 2, 9, Status::SEEN_REPLY, 1_050),
            event(EventKind::New, 3, 10, QUIET, 1_060),
        ];
        let latencies = new_to_seen_reply(&events);
        assert_eq!(latencies.pairs, [(events[0].flow.original, 40)]);
        assert_eq!(latencies.unanswered, 2);
    }

    #[test]
    fn times_of_two_observers_or_in_the_wrong_order_are_not_subtracted() {
        let mut mixed = event(EventKind::Update, 1, 7, Status::SEEN_REPLY, 150);
        mixed.at = EventTime::Received(150);
        let events = [
            event(EventKind::New, 1, 7, QUIET, 100),
            mixed,
            event(EventKind::New, 2, 8, QUIET, 500),
            event(EventKind::Update, 2, 8, Status::SEEN_REPLY, 400),
        ];
        let latencies = new_to_seen_reply(&events);
        assert_eq!(latencies.pairs, []);
        assert_eq!(latencies.incomparable, 2);
    }
}
