// SPDX-License-Identifier: Apache-2.0
//! A container as the Engine sees it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bollard::models::{ContainerInspectResponse, EndpointSettings};

/// A container at the time it was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The Engine's id, 64 hexadecimal digits.
    pub id: String,
    /// Its name, without the slash before it.
    pub name: String,
    /// Its first process in this machine's numbering; `None` while it does not run.
    pub pid: Option<u32>,
    /// Networks it is attached to and has an address in, by name.
    pub networks: BTreeMap<String, Attachment>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Image it was made from, as it was asked for.
    pub image: String,
    /// Whether it runs.
    pub running: bool,
    /// Exit code of one that has run.
    pub exit_code: Option<i64>,
}

/// A container in a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The container's address.
    pub ip: IpAddr,
    /// Bits of the network's prefix.
    pub prefix: u8,
    /// The network's gateway, which is the machine itself.
    pub gateway: Option<IpAddr>,
}

impl Container {
    /// From the Engine's answer; `None` if it has no id.
    pub(super) fn from_answer(answer: ContainerInspectResponse) -> Option<Self> {
        let state = answer.state.unwrap_or_default();
        let running = state.running.unwrap_or(false);
        let config = answer.config.unwrap_or_default();
        let networks = answer.network_settings.and_then(|settings| settings.networks);
        Some(Self {
            id: answer.id?,
            name: answer.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            pid: state
                .pid
                .and_then(|pid| u32::try_from(pid).ok())
                .filter(|pid| running && *pid > 0),
            networks: networks
                .into_iter()
                .flatten()
                .filter_map(|(name, endpoint)| Some((name, Attachment::from_answer(&endpoint)?)))
                .collect(),
            labels: config.labels.into_iter().flatten().collect(),
            image: config.image.unwrap_or_default(),
            running,
            exit_code: state.exit_code.filter(|_| !running),
        })
    }
}

impl Attachment {
    fn from_answer(endpoint: &EndpointSettings) -> Option<Self> {
        Some(Self {
            ip: endpoint.ip_address.as_deref()?.parse().ok()?,
            prefix: endpoint.ip_prefix_len.and_then(|bits| bits.try_into().ok())?,
            gateway: endpoint.gateway.as_deref().and_then(|gateway| gateway.parse().ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(json: &str) -> Container {
        Container::from_answer(serde_json::from_str(json).unwrap()).unwrap()
    }

    #[test]
    fn a_running_container_has_a_process_and_addresses() {
        let container = container(
            r#"{"Id": "ab", "Name": "/x-worker", "State": {"Running": true, "Pid": 77, "ExitCode": 0},
                "Config": {"Image": "node:1", "Labels": {"k": "v"}},
                "NetworkSettings": {"Networks": {
                    "kind": {"IPAddress": "172.18.0.3", "IPPrefixLen": 16, "Gateway": "172.18.0.1"},
                    "none": {"IPAddress": ""}}}}"#,
        );
        assert_eq!((container.name.as_str(), container.pid), ("x-worker", Some(77)));
        assert_eq!(container.labels["k"], "v");
        assert_eq!(container.networks.len(), 1);
        let kind = container.networks["kind"];
        assert_eq!(kind.ip, IpAddr::from([172, 18, 0, 3]));
        assert_eq!((kind.prefix, kind.gateway), (16, Some(IpAddr::from([172, 18, 0, 1]))));
        assert_eq!(container.exit_code, None);
    }

    #[test]
    fn one_that_has_ended_has_an_exit_code_and_no_process() {
        let container =
            container(r#"{"Id": "ab", "State": {"Running": false, "Pid": 0, "ExitCode": 137}}"#);
        assert_eq!((container.pid, container.exit_code), (None, Some(137)));
    }
}
