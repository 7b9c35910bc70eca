// SPDX-License-Identifier: Apache-2.0
//! From Ingress objects to what a proxy is told.

use std::collections::HashMap;

use workloads::protocol::IngressRule;

use crate::proxy::{Protocol, ServiceTable};

/// An Ingress object with one rule, as far as it is used: networking.k8s.io/v1, `spec.rules[0]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IngressObject {
    /// Namespace of the object and of its Service.
    pub(super) namespace: String,
    /// `host`.
    pub(super) host: String,
    /// `http.paths[0].path`, with pathType `Prefix`.
    pub(super) path: String,
    /// `http.paths[0].backend.service.name`.
    pub(super) service: String,
    /// `http.paths[0].backend.service.port.number`.
    pub(super) port: u16,
}

/// An object for each port of each Service, but for those that can be reached from outside: the controller's
/// own.
pub(super) fn objects(table: &ServiceTable) -> Vec<IngressObject> {
    let inside = table
        .services
        .iter()
        .filter(|service| service.ports.iter().all(|port| port.node_port.is_none()));
    let of = |service: &crate::proxy::Service| {
        let (namespace, name) = (service.namespace.clone(), service.name.clone());
        let ports = service.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
        let object = |port: u16| IngressObject {
            host: format!("{name}.{namespace}.example"),
            namespace: namespace.clone(),
            path: "/".to_owned(),
            service: name.clone(),
            port,
        };
        ports.map(|port| object(port.port)).collect::<Vec<_>>()
    };
    inside.flat_map(of).collect()
}

/// What a proxy is told: each rule with its Service's cluster address, or `past` it with its endpoints. A
/// rule whose Service is not in the table, or has no endpoints, is left out: nobody could answer.
pub(super) fn render(
    objects: &[IngressObject],
    table: &ServiceTable,
    past: bool,
) -> Vec<IngressRule> {
    let services: HashMap<_, _> = table
        .services
        .iter()
        .map(|service| ((service.namespace.as_str(), service.name.as_str()), service))
        .collect();
    let rule = |object: &IngressObject| {
        let service = services.get(&(object.namespace.as_str(), object.service.as_str()))?;
        let port = service.ports.iter().find(|port| port.port == object.port)?;
        let endpoints = || port.endpoints.iter().map(|endpoint| endpoint.address).collect();
        let backends = match past {
            true => endpoints(),
            false => vec![std::net::SocketAddr::new(service.cluster_ip, port.port)],
        };
        let (host, path) = (object.host.clone(), object.path.clone());
        (!port.endpoints.is_empty()).then_some(IngressRule { host, path, backends })
    };
    objects.iter().filter_map(rule).collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::plan::Position;
    use crate::proxy::{Affinity, Endpoint, Fill, Policy, Service, ServicePort};

    fn service(name: &str, last: u8, node_port: Option<u16>, endpoints: &[&str]) -> Service {
        let endpoint = |address: &&str| {
            let address: SocketAddr = address.parse().unwrap();
            Endpoint { address, node: "node1".to_owned() }
        };
        Service {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            cluster_ip: [10, 96, 0, last].into(),
            load_balancer_ips: Vec::new(),
            ports: vec![ServicePort {
                name: "http".to_owned(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port,
                endpoints: endpoints.iter().map(endpoint).collect(),
            }],
            affinity: Affinity::None,
            external_policy: Policy::Cluster,
            internal_policy: Policy::Cluster,
        }
    }

    #[test]
    fn a_rule_leads_to_its_service_or_past_it_and_none_to_the_controller_itself() {
        let endpoints = ["10.244.0.3:8080", "10.244.1.2:8080"];
        let table = ServiceTable {
            services: vec![
                service("web", 100, None, &endpoints),
                service("controller", 101, Some(30_081), &["10.244.0.2:8081"]),
                service("empty", 102, None, &[]),
            ],
        };
        let rules = |past| {
            let rules = render(&objects(&table), &table, past);
            let told = |rule: &IngressRule| {
                let backends: Vec<_> = rule.backends.iter().map(ToString::to_string).collect();
                format!("{}{} {}", rule.host, rule.path, backends.join(" "))
            };
            rules.iter().map(told).collect::<Vec<_>>()
        };
        assert_eq!(rules(false), ["web.default.example/ 10.96.0.100:80"]);
        assert_eq!(rules(true), ["web.default.example/ 10.244.0.3:8080 10.244.1.2:8080"]);
    }

    #[test]
    fn every_filler_has_a_rule_and_a_host_of_its_own() {
        let fill = Fill { services: 1000, endpoints: 2, position: Position::Last, seed: 7 };
        let table = fill.table(vec![service("web", 100, None, &["10.244.0.3:8080"])]).unwrap();
        let rules = render(&objects(&table), &table, false);
        let hosts: std::collections::HashSet<_> = rules.iter().map(|rule| &rule.host).collect();
        assert_eq!((rules.len(), hosts.len()), (1000, 1000));
    }
}
