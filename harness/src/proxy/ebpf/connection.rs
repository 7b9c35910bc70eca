// SPDX-License-Identifier: Apache-2.0
//! Entries of the map of connections (`struct tuple`, `struct connection`).

use crate::net::addresses::octets4;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Addresses and ports of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tuple {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    /// Number of the protocol in IP headers.
    pub(super) protocol: u8,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    /// What its packets become.
    pub(super) becomes: Tuple,
    /// When the last one passed, `CLOCK_MONOTONIC`.
    pub(super) seen_ns: u64,
    /// Number of its Service port.
    pub(super) service: u32,
    /// Place of its endpoint among all.
    pub(super) endpoint: u32,
    /// Packets translated.
    pub(super) packets: u32,
    /// Its state.
    pub(super) state: State,
}

/// Where a connection is in its life; `enum state` of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Opening,
    Open,
    HalfClosed,
    Closed,
    Reset,
    Datagrams,
}

impl State {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Opening, "opening"),
        (Self::Open, "open"),
        (Self::HalfClosed, "half closed"),
        (Self::Closed, "closed"),
        (Self::Reset, "reset"),
        (Self::Datagrams, "datagrams"),
    ];
}

impl Tuple {
    pub(super) const BYTES: usize = 16;

    /// As it is a key.
    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&octets4(self.source.ip()));
        bytes[4..8].copy_from_slice(&octets4(self.destination.ip()));
        bytes[8..10].copy_from_slice(&self.source.port().to_be_bytes());
        bytes[10..12].copy_from_slice(&self.destination.port().to_be_bytes());
        bytes[12..].copy_from_slice(&u32::from(self.protocol).to_ne_bytes());
        bytes
    }

    /// None if the bytes are not as many.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let address = |at: usize, port_at: usize| {
            let octets: [u8; 4] = bytes[at..at + 4].try_into().expect("four of them");
            let port = u16::from_be_bytes([bytes[port_at], bytes[port_at + 1]]);
            SocketAddr::new(IpAddr::from(octets), port)
        };
        let protocol = u32::from_ne_bytes(bytes[12..].try_into().expect("four of them"));
        let protocol = u8::try_from(protocol).ok()?;
        Some(Self { source: address(0, 8), destination: address(4, 10), protocol })
    }

    /// The tuple of an answer.
    pub(super) fn reverse(self) -> Self {
        Self { source: self.destination, destination: self.source, ..self }
    }
}

impl Connection {
    pub(super) const BYTES: usize = 64;

    /// None if the bytes are no connection.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let word = |at: usize| bytes[at..at + 4].try_into().map(u32::from_ne_bytes);
        Some(Self {
            becomes: Tuple::from_bytes(&bytes[..Tuple::BYTES])?,
            seen_ns: u64::from_ne_bytes(bytes[16..24].try_into().ok()?),
            service: word(44).ok()?,
            endpoint: word(48).ok()?,
            packets: word(52).ok()?,
            state: State::ALL.get(usize::from(bytes[56]))?.0,
        })
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.protocol == 6 { "tcp" } else { "udp" };
        write!(f, "{protocol} {} -> {}", self.source, self.destination)
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { becomes, packets, state, .. } = self;
        let state = State::ALL[*state as usize].1;
        let s = if *packets == 1 { "" } else { "s" };
        write!(f, "{} -> {}, {state}, {packets} packet{s}", becomes.source, becomes.destination)
    }
}
