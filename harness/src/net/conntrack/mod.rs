// SPDX-License-Identifier: Apache-2.0
//! The kernel's table of connections, read over ctnetlink: which flow was translated to where, how
//! many there are, and the events of flows that come, are answered and go.
//!
//! IPv4 only, as the lab is. A namespace tracks connections only while something in it asks for
//! that: a NAT chain, or a rule that matches `ct`.

mod events;
mod flow;
mod message;
mod reply_latency;
mod request;
mod table;

pub use super::nfnetlink::Malformed;
pub use events::{Event, EventKind, EventTime, Events, Recorded, SubscribeOptions};
pub use flow::{Flow, Status, TcpState, Tuple};
pub use message::{Message, MessageKind, messages};
pub use reply_latency::{ReplyLatencies, new_to_seen_reply};
pub use table::{Filter, count, dump, enable_timestamps, find, flush, max};
