// SPDX-License-Identifier: Apache-2.0
//! Keys and values of the maps as bytes, laid out as `harness/bpf/proxy.h` declares them: addresses, of
//! 4 bytes or 16 as the programs' family has them, and ports in network byte order, the rest in the
//! processor's.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::super::Protocol;
use super::Ebpf;
use super::plan::{Frontend, Port, Target};

/// Longest key or value, bytes: the constants with an address of IPv6.
const LONGEST: usize = 88;

/// Bytes put together field by field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    bytes: [u8; LONGEST],
    at: usize,
}

impl Packed {
    pub(super) fn new() -> Self {
        Self { bytes: [0; LONGEST], at: 0 }
    }

    pub(super) fn with(mut self, field: &[u8]) -> Self {
        self.bytes[self.at..][..field.len()].copy_from_slice(field);
        self.at += field.len();
        self
    }

    pub(super) fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.with(&address.octets()),
            IpAddr::V6(address) => self.with(&address.octets()),
        }
    }

    fn socket(self, address: SocketAddr) -> Self {
        self.address(address.ip()).with(&address.port().to_be_bytes())
    }
}

impl AsRef<[u8]> for Packed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.at]
    }
}

/// Number of the protocol in IP headers.
pub(super) fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

/// `struct frontend`.
pub(super) fn frontend(address: SocketAddr, protocol: Protocol) -> Packed {
    Packed::new().socket(address).with(&u16::from(number(protocol)).to_ne_bytes())
}

/// `struct service`: a Service port at one of its addresses.
pub(super) fn service(id: u32, port: &Port, frontend: &Frontend) -> Packed {
    let Frontend { inside, outside, .. } = frontend;
    let affinity_ns = port.affinity.map_or(0, ns);
    let fields = [id, port.first, *inside, *outside].map(u32::to_ne_bytes);
    Packed::new()
        .with(fields.as_flattened())
        .with(&affinity_ns.to_ne_bytes())
        .with(&u32::from(!port.targets.is_empty()).to_ne_bytes())
        .with(&[0; 4])
}

/// `struct endpoint`.
pub(super) fn endpoint(target: &Target) -> Packed {
    Packed::new().socket(target.address).with(&u16::from(target.here).to_ne_bytes())
}

/// `struct client`: key of a kept choice.
pub(super) fn client(address: IpAddr, service: u32) -> Packed {
    Packed::new().address(address).with(&service.to_ne_bytes())
}

/// When a kept choice ends, and the place of its endpoint (`struct affinity`).
pub(super) fn affinity(bytes: &[u8]) -> Option<(u64, u32)> {
    let until_ns = u64::from_ne_bytes(bytes.get(..8)?.try_into().ok()?);
    Some((until_ns, u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?)))
}

/// The constants of the programs.
pub(super) fn settings(options: &Ebpf, address: IpAddr) -> Packed {
    let timeouts = timeouts_ns(options);
    let shortest = timeouts.into_iter().filter(|ns| *ns > 0).min().unwrap_or(0);
    let tell_ns = (shortest / 8).min(1_000_000_000);
    Packed::new()
        .with(timeouts.map(u64::to_ne_bytes).as_flattened())
        .with(&tell_ns.to_ne_bytes())
        .address(address)
}

/// By the number of the connection's state; `enum state` of the program.
pub(super) fn timeouts_ns(options: &Ebpf) -> [u64; 8] {
    let t = &options.timeouts;
    let all = [t.opening, t.open, t.half_closed, t.closed, t.reset, t.datagrams];
    let mut by_state = [0; 8];
    by_state.iter_mut().zip(all).for_each(|(timeout, of)| *timeout = ns(of));
    by_state
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
