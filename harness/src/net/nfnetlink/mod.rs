// SPDX-License-Identifier: Apache-2.0
//! Netfilter's netlink family: what conntrack and nf_tables are asked with. Messages are walked
//! without a copy; the tools' texts are not read, because they differ between versions and cost
//! seconds where there are 10,000 Services.

mod attributes;
mod batch;
mod message;
mod request;
mod socket;

pub(crate) use attributes::{Attributes, exactly, first, push, push_nested};
pub(crate) use batch::Change;
pub use message::Malformed;
pub(crate) use message::{Message, Payload, messages};
#[cfg(test)]
pub(crate) use request::frame;
pub(crate) use request::{ACKNOWLEDGE, CREATE, DUMP, Subject, ask};
pub(crate) use socket::{DATAGRAM_MAX, Socket};
