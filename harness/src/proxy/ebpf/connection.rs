// SPDX-License-Identifier: Apache-2.0
//! Entries of the map of connections (`struct tuple`, `struct connection`).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::entry::Packed;
use crate::plan::IpFamily;

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
    /// As it is a key.
    pub(super) fn packed(self) -> Packed {
        Packed::new()
            .address(self.source.ip())
            .address(self.destination.ip())
            .with(&self.source.port().to_be_bytes())
            .with(&self.destination.port().to_be_bytes())
            .with(&u32::from(self.protocol).to_ne_bytes())
    }

    /// Reads one of a family, and returns what follows it; `None` if there are not as many bytes.
    fn read(bytes: &[u8], family: IpFamily) -> Option<(Self, &[u8])> {
        let (source, rest) = address(bytes, family)?;
        let (destination, rest) = address(rest, family)?;
        let ([source_port, destination_port], rest) = rest
            .split_first_chunk::<4>()
            .map(|([a, b, c, d], rest)| ([[*a, *b], [*c, *d]].map(u16::from_be_bytes), rest))?;
        let (protocol, rest) = rest.split_first_chunk()?;
        let tuple = Self {
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
            protocol: u8::try_from(u32::from_ne_bytes(*protocol)).ok()?,
        };
        Some((tuple, rest))
    }

    /// The tuple of an answer.
    pub(super) fn reverse(self) -> Self {
        Self { source: self.destination, destination: self.source, ..self }
    }
}

impl Connection {
    /// Bytes of one, which has three addresses: of a tuple, and of the next hop.
    const BYTES: [(IpFamily, usize); 2] = [(IpFamily::Ipv4, 64), (IpFamily::Ipv6, 104)];

    /// None if the bytes are no connection of either family.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (family, _) = Self::BYTES.into_iter().find(|(_, length)| bytes.len() == *length)?;
        let (becomes, rest) = Tuple::read(bytes, family)?;
        let (seen_ns, rest) = rest.split_first_chunk()?;
        // When the other direction was told, and the way: device, next hop, MTU.
        let (_, rest) = address(rest.get(8 + 4..)?, family)?;
        let (words, rest) = rest.get(4..)?.split_first_chunk::<12>()?;
        let word = |at: usize| words[at..at + 4].try_into().map(u32::from_ne_bytes);
        Some(Self {
            becomes,
            seen_ns: u64::from_ne_bytes(*seen_ns),
            service: word(0).ok()?,
            endpoint: word(4).ok()?,
            packets: word(8).ok()?,
            state: State::ALL.get(usize::from(*rest.first()?))?.0,
        })
    }
}

/// Reads an address of a family, and returns what follows it.
fn address(bytes: &[u8], family: IpFamily) -> Option<(IpAddr, &[u8])> {
    match family {
        IpFamily::Ipv4 => {
            bytes.split_first_chunk::<4>().map(|(ip, rest)| (IpAddr::from(*ip), rest))
        }
        IpFamily::Ipv6 => {
            bytes.split_first_chunk::<16>().map(|(ip, rest)| (IpAddr::from(*ip), rest))
        }
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
