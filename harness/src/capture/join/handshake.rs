// SPDX-License-Identifier: Apache-2.0
//! What of a connection's TLS handshake is the server's, in a request that waited for it.
//!
//! Both ends are at work on a handshake, by turns: what passes at the client from connected to secured
//! holds the server's turns. And the server may not be done with it when the request has come, because
//! the client's last word of a handshake (TLS 1.3, and resumption in TLS 1.2) needs no answer and the
//! request follows it at once.

use workloads::protocol::{Accepted, Sample};

/// The server's parts of a request's time, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Handshake {
    /// Its turns while the client shook hands.
    pub(super) served_ns: u64,
    /// From the request being readable to the end of the handshake, where it was read after that.
    pub(super) before_read_ns: u64,
    /// From the read that brought the request to the end of the handshake, where that came after.
    pub(super) behind_read_ns: u64,
}

impl Handshake {
    /// Of a request on a new connection. `readable_ns` is when its first byte was readable, where that
    /// was seen; `read_ns` and `written_ns` are when it was read and when its response was written.
    /// `None` without TLS, and where the server says nothing.
    pub(super) fn of(
        sample: &Sample,
        accepted: Option<&Accepted>,
        readable_ns: Option<u64>,
        (read_ns, written_ns): (u64, u64),
    ) -> Option<Self> {
        let (connected_ns, secured_ns) = (sample.connected_ns?, sample.secured_ns?);
        let accepted = accepted?;
        let within = |turn: &&workloads::protocol::Turn| {
            connected_ns <= turn.read_ns
                && turn.read_ns <= turn.written_ns
                && turn.written_ns <= secured_ns
        };
        let turns = accepted.turns.iter().flatten().filter(within);
        let served_ns = turns.map(|turn| turn.written_ns - turn.read_ns).sum();
        let done_ns = accepted.secured_ns;
        let readable_ns = readable_ns.unwrap_or(read_ns);
        Some(Self {
            served_ns,
            before_read_ns: done_ns.min(read_ns).saturating_sub(readable_ns),
            behind_read_ns: done_ns.min(written_ns).saturating_sub(read_ns),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use workloads::protocol::Turn;

    fn of(turns: [Option<Turn>; 2], secured_ns: u64, readable_ns: Option<u64>) -> Handshake {
        let sample = Sample {
            id: None,
            client: "10.8.0.1:1024".parse().unwrap(),
            request_offset: 300,
            response_offset: 900,
            intended_ns: 0,
            resolve_ns: None,
            connect_ns: Some(0),
            connected_ns: Some(100),
            secured_ns: Some(1000),
            upgraded_ns: None,
            sent_ns: 1100,
            first_byte_ns: 2000,
            last_byte_ns: 2000,
        };
        let accepted = Accepted { accepted_ns: 90, turns, secured_ns };
        Handshake::of(&sample, Some(&accepted), readable_ns, (1300, 1500)).unwrap()
    }

    fn turn(read_ns: u64, written_ns: u64) -> Option<Turn> {
        Some(Turn { read_ns, written_ns })
    }

    #[test]
    fn turns_that_the_client_waited_for_are_the_servers() {
        let both = of([turn(200, 500), turn(600, 650)], 660, None);
        assert_eq!(both, Handshake { served_ns: 350, ..Handshake::default() });
        let tickets = of([turn(200, 500), turn(1050, 1090)], 1095, None);
        assert_eq!(tickets, Handshake { served_ns: 300, ..Handshake::default() });
    }

    #[test]
    fn what_is_left_when_the_request_has_come_is_the_servers_before_and_behind_its_read() {
        let turns = [turn(200, 500), None];
        let left = |done_ns, readable_ns| {
            let Handshake { before_read_ns, behind_read_ns, .. } = of(turns, done_ns, readable_ns);
            (before_read_ns, behind_read_ns)
        };
        assert_eq!(left(1150, Some(1200)), (0, 0));
        assert_eq!(left(1250, Some(1200)), (50, 0));
        assert_eq!(left(1340, Some(1200)), (100, 40));
        assert_eq!(left(1250, None), (0, 0));
        assert_eq!(left(1340, None), (0, 40));
    }
}
