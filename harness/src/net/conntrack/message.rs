// SPDX-License-Identifier: Apache-2.0
//! What ctnetlink's messages say. Pure, and bounded by the input.

use std::net::{IpAddr, SocketAddr};

use super::flow::{Flow, Status, Tuple};
use super::request::{CT_DELETE, CT_NEW};
use crate::net::nfnetlink::{self, Attributes, CREATE, Malformed, Payload, exactly, first};

/// What a message with a flow says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// It has come.
    New,
    /// It is there (the answer to a request) or has changed (an event).
    Present,
    /// It has gone.
    Gone,
}

/// One message of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A flow.
    Flow {
        /// What is said of it.
        kind: MessageKind,
        /// The flow.
        flow: Box<Flow>,
        /// When it happened, ns of CLOCK_REALTIME (`CTA_TIMESTAMP_EVENT`).
        event_ns: Option<u64>,
    },
    /// A flow of another address family than IPv4 and IPv6.
    Foreign,
    /// Anything else, which may be passed over.
    Other,
}

/// Reads the messages of one datagram. Ends after the first that is malformed, and on any input.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message, Malformed>> {
    let mut intact = true;
    nfnetlink::messages(datagram)
        .map(|message| match message? {
            nfnetlink::Message::Payload(payload) => parse(payload),
            _ => Ok(Message::Other),
        })
        .take_while(move |message| std::mem::replace(&mut intact, message.is_ok()))
}

pub(super) fn parse(payload: Payload<'_>) -> Result<Message, Malformed> {
    let kind = match payload.kind {
        CT_NEW if payload.flags & CREATE != 0 => MessageKind::New,
        CT_NEW => MessageKind::Present,
        CT_DELETE => MessageKind::Gone,
        _ => return Ok(Message::Other),
    };
    if ![nix::libc::AF_INET, nix::libc::AF_INET6].contains(&payload.family.into()) {
        return Ok(Message::Foreign);
    }
    let (flow, event_ns) = parse_flow(payload.attributes)?;
    Ok(Message::Flow { kind, flow: Box::new(flow), event_ns })
}

/// `enum ctattr_type` (`linux/netfilter/nfnetlink_conntrack.h`).
fn parse_flow(attributes: &[u8]) -> Result<(Flow, Option<u64>), Malformed> {
    let mut flow = Flow::default();
    let (mut original, mut reply, mut event_ns) = (None, None, None);
    for attribute in Attributes(attributes) {
        let (kind, value) = attribute?;
        let number = || exactly(value).map(u32::from_be_bytes);
        match kind {
            1 => original = Some(parse_tuple(value)?),
            2 => reply = Some(parse_tuple(value)?),
            3 => flow.status = Some(Status(number()?)),
            4 => flow.tcp_state = parse_tcp_state(value)?.map(Into::into),
            7 => flow.timeout_s = Some(number()?),
            8 => flow.mark = Some(number()?),
            12 => flow.id = Some(number()?),
            // CTA_TIMESTAMP, in it CTA_TIMESTAMP_START.
            20 => {
                if let Some(value) = first(value, 1)? {
                    flow.started_ns = Some(u64::from_be_bytes(exactly(value)?));
                }
            }
            // CTA_TIMESTAMP_EVENT, since Linux 6.14.
            27 => event_ns = Some(u64::from_be_bytes(exactly(value)?)),
            _ => {}
        }
    }
    flow.original = original.ok_or(Malformed::Missing { what: "original tuple" })?;
    flow.reply = reply.ok_or(Malformed::Missing { what: "reply tuple" })?;
    Ok((flow, event_ns))
}

/// `CTA_PROTOINFO_TCP`, in it `CTA_PROTOINFO_TCP_STATE`.
fn parse_tcp_state(value: &[u8]) -> Result<Option<u8>, Malformed> {
    let Some(tcp) = first(value, 1)? else { return Ok(None) };
    let Some(state) = first(tcp, 1)? else { return Ok(None) };
    Ok(Some(u8::from_be_bytes(exactly(state)?)))
}

/// `enum ctattr_tuple`, `ctattr_ip` and `ctattr_l4proto`.
fn parse_tuple(value: &[u8]) -> Result<Tuple, Malformed> {
    let addresses = first(value, 1)?.unwrap_or_default();
    let protocol = first(value, 2)?.unwrap_or_default();
    // Those of IPv6 follow, by two.
    let address = |kind, what| match (first(addresses, kind)?, first(addresses, kind + 2)?) {
        (Some(four), _) => Ok(IpAddr::from(exactly::<4>(four)?)),
        (None, Some(six)) => Ok(IpAddr::from(exactly::<16>(six)?)),
        (None, None) => Err(Malformed::Missing { what }),
    };
    let port = |kind| match first(protocol, kind)? {
        Some(value) => exactly(value).map(u16::from_be_bytes),
        // ICMP and others have none.
        None => Ok(0),
    };
    Ok(Tuple {
        protocol: match first(protocol, 1)? {
            Some(value) => u8::from_be_bytes(exactly(value)?),
            None => 0,
        },
        source: SocketAddr::new(address(1, "source address")?, port(2)?),
        destination: SocketAddr::new(address(2, "destination address")?, port(3)?),
    })
}

#[cfg(test)]
mod tests;
