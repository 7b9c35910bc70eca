// SPDX-License-Identifier: Apache-2.0
//! Queues that packets leave an interface through, where they are to do more than wait: netem, which
//! makes a wire of a veth pair, and tbf, which makes a slow one.

mod bytes;
mod netem;
mod tbf;

use std::fmt;

use futures_util::StreamExt;
use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
    Nla,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use rtnetlink::{Error, Handle};

use super::state::all;

pub use netem::Netem;
pub use tbf::Tbf;

/// Attribute of a queue's message that holds what its kind wants (linux/rtnetlink.h).
const TCA_OPTIONS: u16 = 2;
/// Handle of the queues made here: `1:`.
const MAJOR: u16 = 1;

/// A queue at the root of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qdisc {
    /// Interface that packets leave by.
    pub device: String,
    /// What it does to them.
    pub kind: QdiscKind,
}

/// What a queue does to packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QdiscKind {
    /// Delays, loses, reorders, slows.
    Netem(Netem),
    /// Slows.
    Tbf(Tbf),
}

impl QdiscKind {
    /// Its name in the kernel.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Netem(_) => "netem",
            Self::Tbf(_) => "tbf",
        }
    }

    /// Whether this, read back from the kernel, does what `wanted` asks for.
    pub fn does(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Netem(found), Self::Netem(wanted)) => found.does(wanted),
            (Self::Tbf(found), Self::Tbf(wanted)) => found.does(wanted),
            _ => false,
        }
    }

    fn options(&self) -> Vec<u8> {
        match self {
            Self::Netem(netem) => netem.options(),
            Self::Tbf(tbf) => tbf.options(),
        }
    }
}

impl fmt::Display for Qdisc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dev {} root handle {MAJOR}: ", self.device)?;
        match &self.kind {
            QdiscKind::Netem(netem) => netem.fmt(f),
            QdiscKind::Tbf(tbf) => tbf.fmt(f),
        }
    }
}

/// Puts a queue at the root of an interface that has none of its own.
pub(super) async fn add(netlink: &Handle, index: u32, kind: &QdiscKind) -> Result<(), Error> {
    let mut message = TcMessage::with_index(index as i32);
    message.header.parent = TcHandle::ROOT;
    message.header.handle = TcHandle { major: MAJOR, minor: 0 };
    message.attributes = vec![
        TcAttribute::Kind(kind.word().to_owned()),
        // As bytes: the library would wrap the options of a kind it does not know once more.
        TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, kind.options())),
    ];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    let mut answers = netlink.clone().request(request)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(Error::NetlinkError(error));
        }
    }
    Ok(())
}

/// Queues of the kinds that are made here, by interface. None where the kernel has no traffic
/// control at all: then it has none of them.
pub(super) async fn read(netlink: &Handle) -> Result<Vec<(u32, QdiscKind)>, Error> {
    let messages = match all(netlink.qdisc().get().execute()).await {
        Err(Error::NetlinkError(error))
            if error.to_io().raw_os_error() == Some(nix::libc::EOPNOTSUPP) =>
        {
            Vec::new()
        }
        messages => messages?,
    };
    Ok(messages.iter().filter_map(parse).collect())
}

fn parse(message: &TcMessage) -> Option<(u32, QdiscKind)> {
    let index = u32::try_from(message.header.index).ok()?;
    let word = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(word) => Some(word.as_str()),
        _ => None,
    })?;
    let options = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => options.iter().find_map(|option| match option {
            TcOption::Other(nla) => {
                let mut bytes = vec![0; nla.value_len()];
                nla.emit_value(&mut bytes);
                Some(bytes)
            }
            _ => None,
        }),
        _ => None,
    })?;
    if message.header.parent != TcHandle::ROOT {
        return None;
    }
    let kind = match word {
        "netem" => QdiscKind::Netem(Netem::parse(&options)?),
        "tbf" => QdiscKind::Tbf(Tbf::parse(&options)?),
        _ => return None,
    };
    Some((index, kind))
}
