// SPDX-License-Identifier: Apache-2.0
//! A table of Services written as the objects that a real kube-proxy reads: Services without a
//! selector, and Endpoints of the same names.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ClientIPConfig, EndpointAddress, EndpointPort, EndpointSubset, Endpoints, LoadBalancerIngress,
    LoadBalancerStatus, Service as Object, ServicePort as Port, ServiceSpec, ServiceStatus,
    SessionAffinityConfig,
};

use super::{KubeError, ServerVersion};
use crate::Unavailable;
use crate::proxy::{Affinity, Policy, Protocol, Service, ServicePort};

/// Class of our LoadBalancer Services, so that no controller of the cluster takes them up.
const LOAD_BALANCER_CLASS: &str = "nic2pod.dev/none";
/// Longest DNS label (RFC 1035, section 2.3.4).
const LABEL_MAX: usize = 63;

/// Who chooses cluster addresses and NodePorts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// The table: the cluster is our own.
    Table,
    /// The API server: the cluster has ranges of its own, and others' Services in them.
    Cluster,
}

/// A Service's two objects.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// The Service; its status is written on its own, through the subresource.
    pub service: Object,
    /// Its endpoints.
    pub endpoints: Endpoints,
}

/// Writes one Service for a server of that version. Its namespace is the one it is put into, not the
/// table's.
///
/// # Errors
/// A name is not a DNS label, or the version has no field for what the Service asks for.
pub fn render(
    service: &Service,
    addresses: Addresses,
    version: &ServerVersion,
    labels: &BTreeMap<String, String>,
) -> Result<Rendered, KubeError> {
    check_names(service)?;
    let mut object = Object { spec: Some(spec(service, addresses, version)?), ..Object::default() };
    object.metadata.name = Some(service.name.clone());
    object.metadata.labels = Some(labels.clone());
    if !service.load_balancer_ips.is_empty() {
        let ingress = |address: &std::net::IpAddr| LoadBalancerIngress {
            ip: Some(address.to_string()),
            ..LoadBalancerIngress::default()
        };
        let ingress = service.load_balancer_ips.iter().map(ingress).collect();
        let balancer = LoadBalancerStatus { ingress: Some(ingress) };
        object.status = Some(ServiceStatus { load_balancer: Some(balancer), conditions: None });
    }
    let mut endpoints = Endpoints::default();
    endpoints.metadata.name = Some(service.name.clone());
    endpoints.metadata.labels = Some(labels.clone());
    let subsets: Vec<_> = service.ports.iter().flat_map(subsets).collect();
    endpoints.subsets = (!subsets.is_empty()).then_some(subsets);
    Ok(Rendered { service: object, endpoints })
}

fn spec(
    service: &Service,
    addresses: Addresses,
    version: &ServerVersion,
) -> Result<ServiceSpec, KubeError> {
    let any_node_port = service.ports.iter().any(|port| port.node_port.is_some());
    let balanced = !service.load_balancer_ips.is_empty();
    let kind = match (balanced, any_node_port) {
        (true, _) => "LoadBalancer",
        (false, true) => "NodePort",
        (false, false) => "ClusterIP",
    };
    // `internalTrafficPolicy` came as beta, and on, with 1.22 (KEP-2086).
    let internal = version.at_least(1, 22);
    if service.internal_policy == Policy::Local && !internal {
        return Err(Unavailable::new(
            "a server that knows internalTrafficPolicy: Local, Kubernetes 1.22 or later",
            format!("Kubernetes {version}"),
            "a newer node image, or internal_policy = \"Cluster\"",
        )
        .into());
    }
    let own = addresses == Addresses::Table;
    Ok(ServiceSpec {
        type_: Some(kind.to_owned()),
        cluster_ip: own.then(|| service.cluster_ip.to_string()),
        ports: Some(service.ports.iter().map(|port| object_port(port, own)).collect()),
        session_affinity: Some(match service.affinity {
            Affinity::None => "None".to_owned(),
            Affinity::ClientIp { .. } => "ClientIP".to_owned(),
        }),
        session_affinity_config: match service.affinity {
            Affinity::None => None,
            Affinity::ClientIp { timeout } => Some(SessionAffinityConfig {
                client_ip: Some(ClientIPConfig {
                    timeout_seconds: i32::try_from(timeout.as_secs()).ok(),
                }),
            }),
        },
        external_traffic_policy: (kind != "ClusterIP").then(|| policy(service.external_policy)),
        internal_traffic_policy: internal.then(|| policy(service.internal_policy)),
        // Beta, and on, since 1.22 (KEP-1959 and KEP-1864).
        load_balancer_class: (balanced && version.at_least(1, 22))
            .then(|| LOAD_BALANCER_CLASS.to_owned()),
        allocate_load_balancer_node_ports: (balanced && version.at_least(1, 22))
            .then_some(any_node_port),
        ..ServiceSpec::default()
    })
}

fn policy(policy: Policy) -> String {
    format!("{policy:?}")
}

fn protocol(protocol: Protocol) -> String {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    }
    .to_owned()
}

fn object_port(port: &ServicePort, own: bool) -> Port {
    Port {
        name: (!port.name.is_empty()).then(|| port.name.clone()),
        protocol: Some(protocol(port.protocol)),
        port: port.port.into(),
        node_port: port.node_port.filter(|_| own).map(i32::from),
        ..Port::default()
    }
}

/// A subset for each port number among a port's endpoints: within one, all addresses have the ports.
fn subsets(port: &ServicePort) -> Vec<EndpointSubset> {
    let mut by_port: BTreeMap<u16, Vec<EndpointAddress>> = BTreeMap::new();
    for endpoint in &port.endpoints {
        by_port.entry(endpoint.address.port()).or_default().push(EndpointAddress {
            ip: endpoint.address.ip().to_string(),
            node_name: Some(endpoint.node.clone()),
            ..EndpointAddress::default()
        });
    }
    by_port
        .into_iter()
        .map(|(number, addresses)| EndpointSubset {
            addresses: Some(addresses),
            ports: Some(vec![EndpointPort {
                name: (!port.name.is_empty()).then(|| port.name.clone()),
                port: number.into(),
                protocol: Some(protocol(port.protocol)),
                ..EndpointPort::default()
            }]),
            not_ready_addresses: None,
        })
        .collect()
}

fn check_names(service: &Service) -> Result<(), KubeError> {
    let refuse = |problem: String| {
        Err(KubeError::Value { subject: format!("Service {}", service.name), problem })
    };
    // RFC 1035: a Service's name begins with a letter, other names may begin with a digit.
    let letter = service.name.starts_with(|c: char| c.is_ascii_lowercase());
    if !letter || !is_label(&service.name) {
        return refuse(format!("`{}` is not a DNS label", service.name));
    }
    if let Some(port) =
        service.ports.iter().find(|port| !port.name.is_empty() && !is_label(&port.name))
    {
        return refuse(format!("`{}`, a port's name, is not a DNS label", port.name));
    }
    if service.ports.len() > 1 && service.ports.iter().any(|port| port.name.is_empty()) {
        return refuse("of several ports each needs a name".to_owned());
    }
    Ok(())
}

fn is_label(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=LABEL_MAX).contains(&name.len())
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::sample;

    fn version(minor: u32) -> ServerVersion {
        ServerVersion { number: (1, minor), name: format!("v1.{minor}.0") }
    }

    fn every_kind() -> Vec<Service> {
        let mut services = sample::every_kind().services;
        for port in services.iter_mut().flat_map(|service| &mut service.ports) {
            if port.name.is_empty() {
                port.name = "other".to_owned();
            }
        }
        services
    }

    fn text(services: &[Service], addresses: Addresses, minor: u32) -> String {
        let labels = BTreeMap::from([("run".to_owned(), "r".to_owned())]);
        let mut text = String::new();
        for service in services {
            let rendered = render(service, addresses, &version(minor), &labels).unwrap();
            for object in [
                serde_json::to_value(&rendered.service).unwrap(),
                serde_json::to_value(&rendered.endpoints).unwrap(),
            ] {
                text += &format!("{object}\n");
            }
        }
        text
    }

    #[test]
    fn every_kind_of_service_is_written_for_a_new_server() {
        insta::assert_snapshot!(text(&every_kind(), Addresses::Table, 33));
    }

    #[test]
    fn an_old_server_is_told_no_field_that_it_does_not_know() {
        let mut services = every_kind();
        services.retain(|service| service.internal_policy == Policy::Cluster);
        insta::assert_snapshot!(text(&services, Addresses::Table, 20));
    }

    #[test]
    fn a_foreign_cluster_chooses_addresses_and_node_ports_itself() {
        let sticky = &every_kind()[2..3];
        insta::assert_snapshot!(text(sticky, Addresses::Cluster, 33));
    }

    #[test]
    fn a_policy_that_an_old_server_does_not_know_is_a_reason_to_skip() {
        let local = every_kind().into_iter().find(|s| s.internal_policy == Policy::Local).unwrap();
        let refused = render(&local, Addresses::Table, &version(20), &BTreeMap::new());
        let Err(KubeError::Unavailable(reason)) = refused else { panic!("{refused:?}") };
        assert_eq!(reason.found, "Kubernetes v1.20.0");
    }

    #[test]
    fn names_that_the_server_would_refuse_are_refused_first() {
        let named = |name: &str| Service { name: name.to_owned(), ..sample::plain() };
        for name in ["", "0web", "-web", "web-", "Web", "a.b", &"a".repeat(64)] {
            let refused =
                render(&named(name), Addresses::Table, &version(33), &BTreeMap::new()).unwrap_err();
            assert!(refused.to_string().contains("DNS label"), "{name}: {refused}");
        }
        let longest = "a".repeat(63);
        assert!(render(&named(&longest), Addresses::Table, &version(33), &BTreeMap::new()).is_ok());
        let nameless = &sample::every_kind().services[1];
        let refused = render(nameless, Addresses::Table, &version(33), &BTreeMap::new());
        assert!(refused.unwrap_err().to_string().ends_with("of several ports each needs a name"));
    }
}
