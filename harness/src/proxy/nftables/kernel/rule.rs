// SPDX-License-Identifier: Apache-2.0
//! What a rule does, as far as a proof asks: where it sends packets and what it translates them
//! to (`linux/netfilter/nf_tables.h`). Pure, and bounded by the input.

use std::net::{IpAddr, SocketAddr};

use super::{endpoint, text};
use crate::net::nfnetlink::{Attributes, Malformed, exactly, first};

/// A rule's effects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The kernel's number for it, unique within its table.
    pub handle: u64,
    /// Chains it jumps or goes to.
    pub chains: Vec<String>,
    /// Sets and maps it looks up; a map written inside the rule has a name of the kernel's.
    pub maps: Vec<String>,
    /// Where it translates destinations to.
    pub dnat: Option<SocketAddr>,
}

/// Registers of the rule's virtual machine, as far as constants were loaded into them.
type Registers<'a> = Vec<(u32, &'a [u8])>;

/// Reads a rule from the attributes of its message.
///
/// # Errors
/// They are not what the kernel writes.
pub fn parse_rule(attributes: &[u8]) -> Result<Rule, Malformed> {
    let handle = first(attributes, 3)?.map(exactly).transpose()?.map_or(0, u64::from_be_bytes);
    let mut rule = Rule { handle, ..Rule::default() };
    let mut registers = Registers::new();
    for expression in Attributes(first(attributes, 4)?.unwrap_or_default()) {
        let (_, expression) = expression?;
        let data = first(expression, 2)?.unwrap_or_default();
        match text(first(expression, 1)?.unwrap_or_default()).as_str() {
            "immediate" => {
                let value = first(data, 2)?.unwrap_or_default();
                rule.chains.extend(verdict_chain(value)?);
                if let (Some(register), Some(bytes)) = (number(data, 1)?, first(value, 1)?) {
                    registers.push((register, bytes));
                }
            }
            "lookup" => rule.maps.extend(first(data, 1)?.map(text)),
            "nat" => rule.dnat = dnat(data, &registers)?,
            _ => {}
        }
    }
    Ok(rule)
}

/// Chains that the elements of a message send to.
///
/// # Errors
/// They are not what the kernel writes.
pub fn parse_elements(attributes: &[u8]) -> Result<Vec<String>, Malformed> {
    let mut chains = Vec::new();
    for element in Attributes(first(attributes, 3)?.unwrap_or_default()) {
        let (_, element) = element?;
        if let Some(data) = first(element, 2)? {
            chains.extend(verdict_chain(data)?);
        }
    }
    Ok(chains)
}

/// Type `NFT_NAT_DNAT` is 1; its registers hold the lower ends of the address and port ranges.
fn dnat(data: &[u8], registers: &Registers<'_>) -> Result<Option<SocketAddr>, Malformed> {
    if number(data, 1)? != Some(1) {
        return Ok(None);
    }
    let loaded = |kind| -> Result<&[u8], Malformed> {
        let wanted = number(data, kind)?;
        let register = registers.iter().rev().find(|(register, _)| Some(*register) == wanted);
        Ok(register.map(|(_, bytes)| *bytes).unwrap_or_default())
    };
    let (address, port) = (loaded(3)?, loaded(5)?);
    let four = address.as_array::<4>().copied().map(IpAddr::from);
    let address = four.or_else(|| address.as_array::<16>().copied().map(IpAddr::from));
    Ok(match (address, port.as_array()) {
        (Some(address), Some(&port)) => Some(endpoint(address, port)),
        // To an address out of a map, say: not a rule of kube-proxy's.
        _ => None,
    })
}

/// `NFTA_DATA_VERDICT`, in it `NFTA_VERDICT_CHAIN`, which jumps and gotos have.
fn verdict_chain(data: &[u8]) -> Result<Option<String>, Malformed> {
    let Some(verdict) = first(data, 2)? else { return Ok(None) };
    Ok(first(verdict, 2)?.map(text))
}

/// Elements in a message.
///
/// # Errors
/// They are not what the kernel writes.
pub(super) fn count_elements(attributes: &[u8]) -> Result<u32, Malformed> {
    let mut count = 0;
    for element in Attributes(first(attributes, 3)?.unwrap_or_default()) {
        element?;
        count += 1;
    }
    Ok(count)
}

fn number(list: &[u8], kind: u16) -> Result<Option<u32>, Malformed> {
    first(list, kind)?.map(|value| exactly(value).map(u32::from_be_bytes)).transpose()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::net::nfnetlink::{push, push_nested};

    fn nested(parts: &[(u16, &[u8])]) -> Vec<u8> {
        let mut list = Vec::new();
        for (kind, value) in parts {
            push(&mut list, *kind, value);
        }
        list
    }

    fn expression(name: &str, data: &[u8]) -> Vec<u8> {
        nested(&[(1, &[name.as_bytes(), &[0]].concat()), (2, data)])
    }

    fn immediate(register: u32, bytes: &[u8]) -> Vec<u8> {
        let value = nested(&[(1, bytes)]);
        expression("immediate", &nested(&[(1, &register.to_be_bytes()), (2, &value)]))
    }

    fn rule(expressions: &[Vec<u8>]) -> Vec<u8> {
        let (mut list, mut attributes) = (Vec::new(), Vec::new());
        for expression in expressions {
            push_nested(&mut list, 1, expression);
        }
        push_nested(&mut attributes, 4, &list);
        attributes
    }

    #[test]
    fn a_translation_is_read_from_the_registers_it_names() {
        let [one, two, three] = [1_u32, 2, 3].map(u32::to_be_bytes);
        let nat = nested(&[(1, &one), (3, &two), (5, &three)]);
        let attributes = rule(&[
            immediate(2, &[10, 244, 0, 2]),
            immediate(3, &8080_u16.to_be_bytes()),
            expression("nat", &nat),
        ]);
        let address = SocketAddr::new(IpAddr::from([10, 244, 0, 2]), 8080);
        assert_eq!(parse_rule(&attributes).unwrap().dnat, Some(address));
        let six: SocketAddr = "[fd00:10:244::2]:8080".parse().unwrap();
        let IpAddr::V6(address) = six.ip() else { panic!("{six}") };
        let attributes = rule(&[
            immediate(2, &address.octets()),
            immediate(3, &8080_u16.to_be_bytes()),
            expression("nat", &nat),
        ]);
        assert_eq!(parse_rule(&attributes).unwrap().dnat, Some(six));
    }

    #[test]
    fn a_source_translation_is_no_destination() {
        let nat = nested(&[(1, &0_u32.to_be_bytes()), (3, &1_u32.to_be_bytes())]);
        let attributes = rule(&[immediate(1, &[10, 0, 0, 1]), expression("nat", &nat)]);
        assert_eq!(parse_rule(&attributes).unwrap(), Rule::default());
    }

    #[test]
    fn jumps_and_maps_are_read() {
        let verdict = nested(&[(2, &nested(&[(1, &[0xff; 4]), (2, b"services\0")]))]);
        let attributes = rule(&[
            expression("immediate", &nested(&[(1, &[0; 4]), (2, &verdict)])),
            expression("lookup", &nested(&[(1, b"__map3\0")])),
        ]);
        let rule = parse_rule(&attributes).unwrap();
        assert_eq!((rule.chains, rule.maps), (vec!["services".into()], vec!["__map3".into()]));
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..500)) {
            let _ = (parse_rule(&noise), parse_elements(&noise));
        }

        #[test]
        fn a_damaged_rule_never_panics(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let nat = nested(&[(1, &1_u32.to_be_bytes()), (3, &1_u32.to_be_bytes())]);
            let mut attributes = rule(&[immediate(1, &[10, 0, 0, 1]), expression("nat", &nat)]);
            let place = place.index(attributes.len());
            attributes[place] = byte;
            let _ = (parse_rule(&attributes), parse_elements(&attributes));
        }
    }
}
