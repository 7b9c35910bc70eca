// SPDX-License-Identifier: Apache-2.0
//! A plugin's configuration as it is handed over: the node's values in place of what stands for them,
//! and state where the run keeps it.

use std::net::IpAddr;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::net::Cidr;
use crate::plan::{Conflist, Plugin};

/// What is put in for a node.
#[derive(Clone, Debug)]
pub struct NodeValues {
    /// `{{pod_cidr}}`: where its pods' addresses are from.
    pub pod_cidr: Cidr,
    /// `{{gateway}}`: the first address of that.
    pub gateway: IpAddr,
    /// `{{node_address}}`: of its NIC.
    pub address: IpAddr,
    /// `{{default_route}}`: to everywhere, of the family of these addresses.
    pub default_route: Cidr,
    /// `{{nic}}`: name of its NIC.
    pub nic: String,
    /// `{{mtu}}`: of the wire between nodes, bytes; a number where it stands alone.
    pub mtu: u32,
}

/// The configuration of one plugin of a list on a node, without what only one call has.
///
/// `host-local` and `tuning` keep state in folders of the machine's unless told otherwise
/// (`/var/lib/cni/networks`, `/run/cni/tuning`): they are told the run's `state`, whatever the list says.
pub(super) fn config(
    list: &Conflist,
    plugin: &Plugin,
    values: &NodeValues,
    state: &Path,
) -> Map<String, Value> {
    let mut config = plugin.config.clone();
    config.values_mut().for_each(|value| put_in(value, values));
    config.insert("name".to_owned(), json!(list.name()));
    config.insert("cniVersion".to_owned(), json!(list.version()));
    let data_dir = ("dataDir".to_owned(), json!(state));
    if plugin.program == "tuning" {
        config.extend([data_dir.clone()]);
    }
    if plugin.ipam.as_deref() == Some("host-local")
        && let Some(Value::Object(ipam)) = config.get_mut("ipam")
    {
        ipam.extend([data_dir]);
    }
    config
}

/// Adds what the runtime says of this pod, as far as the plugin has the capability for it (CNI
/// conventions, "Dynamic Plugin specific fields"); what the list says itself stays.
pub(super) fn for_pod(mut config: Map<String, Value>, address: Cidr) -> Map<String, Value> {
    let capable = |name: &str| config.get("capabilities").is_some_and(|all| all[name] == true);
    if capable("ips") {
        let runtime = config.entry("runtimeConfig").or_insert_with(|| json!({}));
        if let Value::Object(runtime) = runtime {
            runtime.insert("ips".to_owned(), json!([address.to_string()]));
        }
    }
    config
}

fn put_in(value: &mut Value, values: &NodeValues) {
    match value {
        Value::String(text) if text == "{{mtu}}" => *value = json!(values.mtu),
        Value::String(text) if text.contains("{{") => {
            *text = text
                .replace("{{pod_cidr}}", &values.pod_cidr.to_string())
                .replace("{{gateway}}", &values.gateway.to_string())
                .replace("{{node_address}}", &values.address.to_string())
                .replace("{{default_route}}", &values.default_route.to_string())
                .replace("{{nic}}", &values.nic)
                .replace("{{mtu}}", &values.mtu.to_string());
        }
        Value::Array(all) => all.iter_mut().for_each(|value| put_in(value, values)),
        Value::Object(all) => all.values_mut().for_each(|value| put_in(value, values)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> NodeValues {
        NodeValues {
            pod_cidr: "10.244.1.0/24".parse().unwrap(),
            gateway: IpAddr::from([10, 244, 1, 1]),
            address: IpAddr::from([10, 9, 0, 12]),
            default_route: "0.0.0.0/0".parse().unwrap(),
            nic: "eth0".to_owned(),
            mtu: 1400,
        }
    }

    fn rendered(plugin: &str) -> Map<String, Value> {
        let text = format!(r#"{{"cniVersion": "1.0.0", "name": "x", "plugins": [{plugin}]}}"#);
        let list = Conflist::parse(&text).unwrap();
        config(&list, &list.plugins()[0], &values(), Path::new("/run-1/state"))
    }

    #[test]
    fn a_nodes_values_are_put_in_wherever_they_are_asked_for() {
        let config = rendered(
            r#"{"type": "macvlan", "master": "{{nic}}", "mtu": "{{mtu}}", "about": "{{mtu}} on {{node_address}}",
                "ipam": {"type": "host-local", "ranges": [[{"subnet": "{{pod_cidr}}", "gateway": "{{gateway}}"}]]}}"#,
        );
        insta::assert_snapshot!(serde_json::to_string_pretty(&config).unwrap());
    }

    #[test]
    fn state_is_the_runs_whatever_the_list_says() {
        let config = rendered(
            r#"{"type": "tuning", "dataDir": "/var/lib/x", "ipam": {"type": "host-local", "dataDir": "/var/lib/cni"}}"#,
        );
        assert_eq!(config["dataDir"], "/run-1/state");
        assert_eq!(config["ipam"]["dataDir"], "/run-1/state");
    }

    #[test]
    fn a_plugin_that_can_take_addresses_is_told_the_planned_one() {
        let address = "10.244.1.2/24".parse().unwrap();
        let able = rendered(r#"{"type": "bridge", "capabilities": {"ips": true}}"#);
        assert_eq!(for_pod(able, address)["runtimeConfig"]["ips"], json!(["10.244.1.2/24"]));
        for other in [r#"{"type": "ptp"}"#, r#"{"type": "ptp", "capabilities": {"mac": true}}"#] {
            assert!(for_pod(rendered(other), address).get("runtimeConfig").is_none());
        }
    }
}
