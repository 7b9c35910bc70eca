// SPDX-License-Identifier: Apache-2.0
//! nf_tables read from the kernel: single chains and elements of the table `kube-proxy` of a family.
//!
//! Every `nft` command of version 1.0.6 reads all sets of the table before it answers, which takes
//! three seconds where there are 10,000 Services; asked directly, the kernel answers at once.

pub(super) mod message;
mod rule;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;

use crate::net::nfnetlink::{DUMP, Malformed, Subject, ask, exactly, first, push, push_nested};
use crate::plan::IpFamily;

pub use rule::{Rule, parse_elements, parse_rule};

/// `NFNL_SUBSYS_NFTABLES << 8`; `NFT_MSG_GETTABLE`, `_GETCHAIN`, `_GETRULE` and `_GETSETELEM`.
const GET_TABLE: u16 = 10 << 8 | 1;
const GET_CHAIN: u16 = 10 << 8 | 4;
const GET_RULE: u16 = 10 << 8 | 7;
const GET_ELEMENT: u16 = 10 << 8 | 13;

/// Elements of one set or map that are looked at; more endpoints has no Service.
const ELEMENTS_MAX: usize = 10_000;

/// Hook and priority of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hook {
    /// `NF_INET_PRE_ROUTING` is 0, `NF_INET_POST_ROUTING` 4.
    pub(super) number: u32,
    pub(super) priority: i32,
}

/// Names of the tables of a family of the calling thread's namespace.
pub(super) fn tables(family: IpFamily) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    ask(Subject::of(family), GET_TABLE, DUMP, &[], |payload| {
        names.extend(first(payload.attributes, 1)?.map(text));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(names)
}

/// A base chain's hook; `None` if the chain is not there or has none.
pub(super) fn hook(family: IpFamily, table: &str, chain: &str) -> io::Result<Option<Hook>> {
    let mut hook = None;
    let asked =
        ask(Subject::of(family), GET_CHAIN, 0, &names([(1, table), (3, chain)]), |payload| {
            if let Some(inner) = first(payload.attributes, 4)? {
                let number = |kind| -> Result<_, Malformed> {
                    exactly(first(inner, kind)?.unwrap_or_default()).map(u32::from_be_bytes)
                };
                hook = Some(Hook { number: number(1)?, priority: number(2)?.cast_signed() });
            }
            Ok(ControlFlow::Break(()))
        });
    absent(asked)?;
    Ok(hook)
}

/// Whether a chain is there.
pub(super) fn has_chain(family: IpFamily, table: &str, chain: &str) -> io::Result<bool> {
    let asked = ask(Subject::of(family), GET_CHAIN, 0, &names([(1, table), (3, chain)]), |_| {
        Ok(ControlFlow::Break(()))
    });
    absent(asked)
}

/// Rules of a chain; none if it is not there.
pub(super) fn rules(family: IpFamily, table: &str, chain: &str) -> io::Result<Vec<Rule>> {
    let mut rules = Vec::new();
    let asked =
        ask(Subject::of(family), GET_RULE, DUMP, &names([(1, table), (2, chain)]), |payload| {
            rules.push(parse_rule(payload.attributes)?);
            Ok(ControlFlow::Continue(()))
        });
    absent(asked)?;
    Ok(rules)
}

/// Chains that the elements of a verdict map send to.
pub(super) fn targets(family: IpFamily, table: &str, map: &str) -> io::Result<Vec<String>> {
    let mut chains = Vec::new();
    ask(Subject::of(family), GET_ELEMENT, DUMP, &names([(1, table), (2, map)]), |payload| {
        chains.extend(parse_elements(payload.attributes)?);
        Ok(if chains.len() < ELEMENTS_MAX {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })?;
    Ok(chains)
}

/// How many elements a set or map has.
pub(super) fn elements(family: IpFamily, table: &str, map: &str) -> io::Result<u32> {
    let mut count = 0;
    ask(Subject::of(family), GET_ELEMENT, DUMP, &names([(1, table), (2, map)]), |payload| {
        count += rule::count_elements(payload.attributes)?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(count)
}

/// Chain that a verdict map sends `key` to; `None` if the key is not in it, or there is no map.
pub(super) fn target(
    family: IpFamily,
    table: &str,
    map: &str,
    key: &[u8],
) -> io::Result<Option<String>> {
    let (mut data, mut element, mut list) = (Vec::new(), Vec::new(), Vec::new());
    push(&mut data, 1, key);
    push_nested(&mut element, 1, &data);
    push_nested(&mut list, 1, &element);
    let mut attributes = names([(1, table), (2, map)]);
    push_nested(&mut attributes, 3, &list);
    let mut chain = None;
    let asked = ask(Subject::of(family), GET_ELEMENT, 0, &attributes, |payload| {
        chain = parse_elements(payload.attributes)?.pop();
        Ok(ControlFlow::Break(()))
    });
    absent(asked)?;
    Ok(chain)
}

/// Key of `ipv4_addr . inet_proto . inet_service`, or with `ipv6_addr`: each part is padded to four bytes.
pub(super) fn frontend_key(protocol: u8, address: SocketAddr) -> Vec<u8> {
    let behind = node_port_key(protocol, address.port());
    match address.ip() {
        IpAddr::V4(address) => [&address.octets()[..], &behind].concat(),
        IpAddr::V6(address) => [&address.octets()[..], &behind].concat(),
    }
}

/// Key of `inet_proto . inet_service`.
pub(super) fn node_port_key(protocol: u8, port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![protocol, 0, 0, 0, high, low, 0, 0]
}

/// Where a rule of the endpoint's chain translates to.
fn endpoint(address: IpAddr, port: [u8; 2]) -> SocketAddr {
    SocketAddr::new(address, u16::from_be_bytes(port))
}

/// Attributes that are names.
pub(super) fn names<const N: usize>(names: [(u16, &str); N]) -> Vec<u8> {
    let mut attributes = Vec::new();
    for (kind, name) in names {
        push(&mut attributes, kind, &[name.as_bytes(), &[0]].concat());
    }
    attributes
}

/// A name as the kernel writes it: ended by a zero.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// That something is not there is an answer: `false`.
fn absent(asked: io::Result<()>) -> io::Result<bool> {
    match asked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
