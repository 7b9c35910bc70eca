// SPDX-License-Identifier: Apache-2.0
//! A table's Services as the objects a kube-proxy reads, with the defaults that a server fills in.
//!
//! `kube::render` writes what a server of somebody's is told; here the server is our own, and its clients
//! read what others would not be allowed to write.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::resource::Resource;
use crate::net::addresses::{SERVICES, family};
use crate::proxy::{Affinity, Endpoint, Policy, Protocol, Service, ServicePort};

/// Label of an EndpointSlice with its Service's name (`discovery/v1/well_known_labels.go`).
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label, and in slices of v1beta1 key of the topology, with a node's name.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Most endpoints of a slice (`validation.go`, `maxEndpoints`).
const SLICE_MAX: usize = 1000;

/// The objects of a resource that a Service makes: one, or as many slices as it takes.
pub(super) fn of_service(resource: Resource, service: &Service, version: u64) -> Vec<Value> {
    match resource {
        Resource::Services => vec![service_object(service, version)],
        Resource::Endpoints => vec![endpoints(service, version)],
        Resource::EndpointSlices | Resource::EndpointSlicesBeta => {
            slices(resource, service, version)
        }
        Resource::Nodes | Resource::ServiceCidrs => Vec::new(),
    }
}

/// The node that kube-proxy runs on.
pub(super) fn node(name: &str, address: IpAddr) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name, "uid": format!("node-{name}"), "resourceVersion": "1",
            "labels": { HOSTNAME: name },
        },
        "spec": {},
        "status": { "addresses": [
            { "type": "InternalIP", "address": address.to_string() },
            { "type": "Hostname", "address": name },
        ] },
    })
}

/// What the API calls an address's family.
fn ip_family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

/// The range of cluster addresses of a node's family.
pub(super) fn service_cidr(node: IpAddr) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": { "name": "kubernetes", "uid": "servicecidr", "resourceVersion": "1" },
        "spec": { "cidrs": [SERVICES.of(family(node)).to_string()] },
        "status": { "conditions": [{
            "type": "Ready", "status": "True", "reason": "", "message": "",
            "lastTransitionTime": "2024-01-01T00:00:00Z",
        }] },
    })
}

fn metadata(service: &Service, name: &str, kind: &str, version: u64) -> Value {
    json!({
        "namespace": service.namespace,
        "name": name,
        "uid": format!("{kind}-{}-{name}", service.namespace),
        "resourceVersion": version.to_string(),
        "creationTimestamp": "2024-01-01T00:00:00Z",
    })
}

fn service_object(service: &Service, version: u64) -> Value {
    let any_node_port = service.ports.iter().any(|port| port.node_port.is_some());
    let balanced = !service.load_balancer_ips.is_empty();
    let kind = match (balanced, any_node_port) {
        (true, _) => "LoadBalancer",
        (false, true) => "NodePort",
        (false, false) => "ClusterIP",
    };
    let mut spec = json!({
        "type": kind,
        "clusterIP": service.cluster_ip.to_string(),
        "clusterIPs": [service.cluster_ip.to_string()],
        "ipFamilies": [ip_family(service.cluster_ip)],
        "ipFamilyPolicy": "SingleStack",
        "ports": service.ports.iter().map(service_port).collect::<Vec<_>>(),
        "sessionAffinity": "None",
        "internalTrafficPolicy": policy(service.internal_policy),
    });
    if let Affinity::ClientIp { timeout } = service.affinity {
        spec["sessionAffinity"] = "ClientIP".into();
        spec["sessionAffinityConfig"] =
            json!({ "clientIP": { "timeoutSeconds": timeout.as_secs() } });
    }
    if kind != "ClusterIP" {
        spec["externalTrafficPolicy"] = policy(service.external_policy).into();
    }
    if balanced {
        spec["allocateLoadBalancerNodePorts"] = any_node_port.into();
    }
    let ingress: Vec<_> = service
        .load_balancer_ips
        .iter()
        .map(|address| json!({ "ip": address.to_string(), "ipMode": "VIP" }))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(service, &service.name, "service", version),
        "spec": spec,
        "status": { "loadBalancer": { "ingress": ingress } },
    })
}

fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::Cluster => "Cluster",
        Policy::Local => "Local",
    }
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    }
}

fn service_port(port: &ServicePort) -> Value {
    json!({
        "name": port.name,
        "protocol": protocol(port.protocol),
        "port": port.port,
        "targetPort": port.port,
        "nodePort": port.node_port.unwrap_or(0),
    })
}

/// Endpoints of a port by the number they answer at: all addresses of a subset, or a slice, have the
/// same ports.
fn by_number(port: &ServicePort) -> BTreeMap<u16, Vec<&Endpoint>> {
    let mut numbers: BTreeMap<u16, Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in &port.endpoints {
        numbers.entry(endpoint.address.port()).or_default().push(endpoint);
    }
    numbers
}

fn endpoint_port(port: &ServicePort, number: u16) -> Value {
    json!({ "name": port.name, "port": number, "protocol": protocol(port.protocol) })
}

fn endpoints(service: &Service, version: u64) -> Value {
    let mut subsets = Vec::new();
    for port in &service.ports {
        for (number, endpoints) in by_number(port) {
            let address = |endpoint: &&Endpoint| {
                let mut address = json!({ "ip": endpoint.address.ip().to_string() });
                if !endpoint.node.is_empty() {
                    address["nodeName"] = endpoint.node.as_str().into();
                }
                address
            };
            let addresses: Vec<_> = endpoints.iter().map(address).collect();
            subsets.push(json!({ "addresses": addresses, "ports": [endpoint_port(port, number)] }));
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": metadata(service, &service.name, "endpoints", version),
        "subsets": subsets,
    })
}

fn slices(resource: Resource, service: &Service, version: u64) -> Vec<Value> {
    let mut slices = Vec::new();
    for port in &service.ports {
        for (number, endpoints) in by_number(port) {
            for endpoints in endpoints.chunks(SLICE_MAX) {
                let name = format!("{}-{}", service.name, slices.len());
                let mut metadata = metadata(service, &name, "endpointslice", version);
                metadata["labels"] = json!({ SERVICE_NAME: service.name });
                let endpoints: Vec<_> =
                    endpoints.iter().map(|endpoint| slice_endpoint(resource, endpoint)).collect();
                slices.push(json!({
                    "apiVersion": resource.api_version(),
                    "kind": resource.kind(),
                    "metadata": metadata,
                    "addressType": ip_family(service.cluster_ip),
                    "endpoints": endpoints,
                    "ports": [endpoint_port(port, number)],
                }));
            }
        }
    }
    slices
}

fn slice_endpoint(resource: Resource, endpoint: &Endpoint) -> Value {
    let mut value = json!({
        "addresses": [endpoint.address.ip().to_string()],
        "conditions": { "ready": true, "serving": true, "terminating": false },
    });
    if !endpoint.node.is_empty() {
        value["nodeName"] = endpoint.node.as_str().into();
        // Up to 1.20 the node's name is read here (feature gate EndpointSliceNodeName).
        if resource == Resource::EndpointSlicesBeta {
            value["topology"] = json!({ HOSTNAME: endpoint.node });
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::sample::every_kind;

    fn text(resource: Resource) -> String {
        let table = every_kind();
        let objects = table.services.iter().flat_map(|service| of_service(resource, service, 1));
        objects.map(|object| format!("{object}\n")).collect()
    }

    #[test]
    fn every_kind_of_service_is_written_as_kube_proxy_reads_it() {
        insta::assert_snapshot!("services", text(Resource::Services));
        insta::assert_snapshot!("slices", text(Resource::EndpointSlices));
        insta::assert_snapshot!("slices_beta", text(Resource::EndpointSlicesBeta));
        insta::assert_snapshot!("endpoints", text(Resource::Endpoints));
    }

    #[test]
    fn more_endpoints_than_a_slice_may_have_are_told_in_several() {
        let mut service = crate::proxy::sample::plain();
        let one = service.ports[0].endpoints[0].clone();
        service.ports[0].endpoints = vec![one; 2500];
        let slices = of_service(Resource::EndpointSlices, &service, 1);
        let lengths: Vec<_> =
            slices.iter().map(|slice| slice["endpoints"].as_array().unwrap().len()).collect();
        assert_eq!(lengths, [1000, 1000, 500]);
        let names: Vec<_> =
            slices.iter().map(|slice| slice["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["plain-0", "plain-1", "plain-2"]);
    }
}
