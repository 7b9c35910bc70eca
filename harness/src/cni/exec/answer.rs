// SPDX-License-Identifier: Apache-2.0
//! What plugins write to standard output: a result, an error, the versions they speak. Bounded where
//! it is read; here nothing that it says makes the harness panic.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use crate::net::Cidr;
use crate::net::addresses::family;

/// Longest that is kept of a plugin's own words, characters.
const WORDS_MAX: usize = 2000;

/// The result of an ADD (CNI specification 1.0.0, section 5, "Success").
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Interfaces made, in the node's namespace and the pod's.
    pub interfaces: Vec<Interface>,
    /// Addresses given.
    pub addresses: Vec<Cidr>,
    /// Routes made in the pod: where to, and through which next hop if through one.
    pub routes: Vec<(Cidr, Option<IpAddr>)>,
    /// The whole of it, for the next plugin.
    pub value: Value,
}

/// An interface that a plugin says it made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Path of the namespace it is in; empty for the node's.
    #[serde(default)]
    pub sandbox: String,
}

/// A plugin's own words on why it failed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Refusal {
    /// Which kind of failure.
    pub code: u64,
    /// Short.
    pub msg: String,
    /// Longer.
    #[serde(default)]
    pub details: String,
}

#[derive(Deserialize)]
struct Success {
    #[serde(rename = "cniVersion")]
    version: String,
    interfaces: Option<Vec<Interface>>,
    ips: Option<Vec<Ip>>,
    routes: Option<Vec<Route>>,
}

#[derive(Deserialize)]
struct Ip {
    address: String,
    gateway: Option<IpAddr>,
}

#[derive(Deserialize)]
struct Route {
    dst: String,
    gw: Option<IpAddr>,
}

#[derive(Deserialize)]
struct Versions {
    #[serde(rename = "supportedVersions")]
    supported: Vec<String>,
}

impl Answer {
    /// Reads the result of an ADD that was asked for in a version of the protocol.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8], version: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let success = Success::deserialize(&value).map_err(|error| error.to_string())?;
        if success.version != version {
            return Err(format!("its cniVersion is `{}`, not {version}", success.version));
        }
        let (mut addresses, mut gateways) = (Vec::new(), Vec::new());
        for ip in success.ips.unwrap_or_default() {
            addresses.push(prefix(&ip.address)?);
            gateways.extend(ip.gateway);
        }
        let mut routes = Vec::new();
        for route in success.routes.unwrap_or_default() {
            let to = prefix(&route.dst)?;
            // Without a next hop of its own a route has that of the address (`ipam.ConfigureIface()`).
            let of_address = gateways.iter().find(|gateway| family(**gateway) == to.family());
            routes.push((to, route.gw.or(of_address.copied())));
        }
        let interfaces = success.interfaces.unwrap_or_default();
        Ok(Self { interfaces, addresses, routes, value })
    }
}

impl Refusal {
    /// Reads a plugin's error; its words are cut to what a sentence can hold.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err("it is empty".to_owned());
        }
        let Self { code, msg, details } =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let cut = |text: String| text.trim().chars().take(WORDS_MAX).collect();
        Ok(Self { code, msg: cut(msg), details: cut(details) })
    }
}

/// Reads which versions of the protocol a plugin speaks.
///
/// # Errors
/// What is wrong with its answer.
pub fn versions(bytes: &[u8]) -> Result<Vec<String>, String> {
    let versions: Versions = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    Ok(versions.supported)
}

/// An address with its prefix.
fn prefix(text: &str) -> Result<Cidr, String> {
    text.parse().map_err(|_unnamed| format!("`{text}` is no address with a prefix"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::net::addresses::bits_of;
    use crate::plan::IpFamily;

    /// As the reference plugins' `bridge` answers, in 1.0.0.
    const RESULT: &str = r#"{
        "cniVersion": "1.0.0",
        "interfaces": [
            { "name": "cni0", "mac": "1e:72:45:af:4c:6e" },
            { "name": "eth0", "mac": "3e:57:3f:0c:68:79", "sandbox": "/proc/1/fd/9" }
        ],
        "ips": [
            { "interface": 1, "address": "10.244.0.5/24", "gateway": "10.244.0.1" },
            { "address": "fd00::5/64", "gateway": "fd00::1" }
        ],
        "routes": [ { "dst": "0.0.0.0/0" }, { "dst": "10.8.0.0/16", "gw": "10.244.0.9" }, { "dst": "::/0" } ],
        "dns": {}
    }"#;

    #[test]
    fn a_result_says_interfaces_addresses_and_routes_with_their_next_hops() {
        let answer = Answer::parse(RESULT.as_bytes(), "1.0.0").unwrap();
        assert_eq!(answer.interfaces[1].name, "eth0");
        assert_eq!(answer.interfaces[0].sandbox, "");
        let given = ["10.244.0.5/24", "fd00::5/64"].map(|text| text.parse().unwrap());
        assert_eq!(answer.addresses, given);
        let via = |last| Some(IpAddr::from([10, 244, 0, last]));
        assert_eq!(
            answer.routes,
            [
                (Cidr::any(IpFamily::Ipv4), via(1)),
                ("10.8.0.0/16".parse().unwrap(), via(9)),
                (Cidr::any(IpFamily::Ipv6), Some("fd00::1".parse().unwrap())),
            ]
        );
        assert_eq!(answer.value["dns"], serde_json::json!({}));
    }

    #[test]
    fn a_result_without_anything_in_it_is_one() {
        let answer = Answer::parse(br#"{"cniVersion": "0.4.0", "ips": null}"#, "0.4.0").unwrap();
        assert_eq!((answer.addresses.len(), answer.routes.len()), (0, 0));
    }

    #[test]
    fn what_is_no_result_says_why() {
        let said = [
            "",
            "[]",
            "{}",
            r#"{"cniVersion": "0.4.0"}"#,
            r#"{"cniVersion": "1.0.0", "ips": [{}]}"#,
            r#"{"cniVersion": "1.0.0", "ips": [{"address": "10.244.0.5"}]}"#,
            r#"{"cniVersion": "1.0.0", "ips": [{"address": "10.244.0.5/33"}]}"#,
            r#"{"cniVersion": "1.0.0", "ips": [{"address": "fd00::1/129"}]}"#,
            r#"{"cniVersion": "1.0.0", "routes": [{"dst": "all"}]}"#,
            r#"{"cniVersion": "1.0.0", "interfaces": {"name": "eth0"}}"#,
        ]
        .map(|text| Answer::parse(text.as_bytes(), "1.0.0").unwrap_err());
        insta::assert_snapshot!(said.join("\n"));
    }

    #[test]
    fn a_refusal_is_read_and_its_words_are_cut() {
        let long = "x".repeat(WORDS_MAX + 1);
        let text =
            format!(r#"{{"cniVersion": "1.0.0", "code": 11, "msg": " no ", "details": "{long}"}}"#);
        let refusal = Refusal::parse(text.as_bytes()).unwrap();
        assert_eq!((refusal.code, &*refusal.msg), (11, "no"));
        assert_eq!(refusal.details.len(), WORDS_MAX);
        assert_eq!(Refusal::parse(b" \n").unwrap_err(), "it is empty");
        assert!(Refusal::parse(br#"{"code": "7", "msg": ""}"#).is_err());
    }

    #[test]
    fn versions_are_those_that_are_supported() {
        let text = br#"{"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}"#;
        assert_eq!(versions(text).unwrap(), ["0.4.0", "1.0.0"]);
        assert!(versions(b"{}").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (Answer::parse(&bytes, "1.0.0"), Refusal::parse(&bytes), versions(&bytes));
        }

        #[test]
        fn no_change_of_a_result_makes_it_panic(at in 0..RESULT.len(), byte in any::<u8>()) {
            let mut bytes = RESULT.as_bytes().to_vec();
            bytes[at] = byte;
            if let Ok(answer) = Answer::parse(&bytes, "1.0.0") {
                prop_assert!(answer.addresses.iter().all(|cidr| cidr.prefix <= bits_of(cidr.family())));
            }
        }
    }
}
