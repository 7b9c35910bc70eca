// SPDX-License-Identifier: Apache-2.0
//! What has to change for a namespace to hold a table's Services. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Endpoints, Service as Object, ServiceSpec};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{KubeError, Placed, Rendered};

/// The way from what is there to what is wanted.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Services that are not wanted.
    pub(super) delete: Vec<String>,
    /// Endpoints without a Service that a wanted one's would meet.
    pub(super) stale: Vec<String>,
    /// Services to be written, in the table's order.
    pub(super) write: Vec<Write>,
    /// Where those are that stay as they are.
    pub(super) unchanged: BTreeMap<String, Placed>,
}

/// One Service and what of it has to be written.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) name: String,
    /// The Service without its addresses, to be written before any other gets theirs.
    pub(super) release: Option<Object>,
    /// The Service; `None` if it is as wanted.
    pub(super) service: Option<Object>,
    /// Whether there is none of the name yet.
    pub(super) is_new: bool,
    /// Its Endpoints; with a version where they replace others.
    pub(super) endpoints: Option<Endpoints>,
    /// A patch of its status.
    pub(super) balancer: Option<Value>,
    /// The Service as it is.
    pub(super) current: Option<Object>,
}

impl Changes {
    /// Compares.
    ///
    /// # Errors
    /// Two wanted Services have one name, or one that is there cannot be understood.
    pub(super) fn between(
        services: Vec<Object>,
        endpoints: &[Endpoints],
        wanted: Vec<Rendered>,
    ) -> Result<Self, KubeError> {
        let mut services: BTreeMap<String, Object> =
            services.into_iter().map(|object| (object.name_any(), object)).collect();
        let endpoints: BTreeMap<String, &Endpoints> =
            endpoints.iter().map(|object| (object.name_any(), object)).collect();
        let (mut changes, mut names) = (Self::default(), BTreeSet::new());
        for Rendered { service, endpoints: backends } in wanted {
            let name = service.name_any();
            if !names.insert(name.clone()) {
                let problem = "another of the table has the same name".to_owned();
                return Err(KubeError::Value { subject: format!("Service {name}"), problem });
            }
            let current = services.remove(&name);
            let there = endpoints.get(&name).copied();
            if current.is_none() && there.is_some() {
                changes.stale.push(name.clone());
            }
            // Those of a Service that is gone will be gone themselves.
            let there = there.filter(|_| current.is_some());
            let write = Write::of(name, service, backends, current, there);
            match write.current {
                Some(current) if write.is_nothing() => {
                    changes.unchanged.insert(write.name, Placed::of(&current)?);
                }
                current => changes.write.push(Write { current, ..write }),
            }
        }
        changes.delete = services.into_keys().collect();
        Ok(changes)
    }
}

impl Write {
    fn of(
        name: String,
        mut service: Object,
        mut backends: Endpoints,
        current: Option<Object>,
        there: Option<&Endpoints>,
    ) -> Self {
        let ingress = ingress(&service);
        let balancer = (ingress != current.as_ref().map_or_else(Vec::new, self::ingress))
            .then(|| json!({"status": {"loadBalancer": {"ingress": addresses(&ingress)}}}));
        service.status = None;
        let endpoints = match there {
            Some(there) if set(there) == set(&backends) => None,
            Some(there) => {
                backends.metadata.resource_version = there.resource_version();
                Some(backends)
            }
            None => Some(backends),
        };
        let Some(object) = &current else {
            let service = Some(service);
            return Self {
                name,
                release: None,
                service,
                is_new: true,
                endpoints,
                balancer,
                current,
            };
        };
        let differs = !holds(&json!(object.spec), &json!(service.spec));
        let service = differs.then(|| {
            keep_addresses(&mut service, object);
            service.metadata.resource_version = object.resource_version();
            service
        });
        let release = service.as_ref().filter(|new| moves(object, new)).map(|_| released(object));
        Self { name, release, service, is_new: false, endpoints, balancer, current }
    }

    fn is_nothing(&self) -> bool {
        self.service.is_none() && self.endpoints.is_none() && self.balancer.is_none()
    }
}

/// Whether `live` has everything that `wanted` says; the server adds defaults.
fn holds(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| live.get(key).is_some_and(|live| holds(live, wanted)))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(l, w)| holds(l, w))
        }
        (live, wanted) => live == wanted,
    }
}

/// Gives a Service the addresses it has where the server is to choose them: servers before 1.20
/// refuse to replace one by one without.
fn keep_addresses(new: &mut Object, old: &Object) {
    let (Some(new), Some(old)) = (&mut new.spec, &old.spec) else { return };
    new.cluster_ip = new.cluster_ip.take().or_else(|| old.cluster_ip.clone());
    if new.type_.as_deref() == Some("ClusterIP") {
        return;
    }
    let old = old.ports.as_deref().unwrap_or_default();
    for port in new.ports.as_deref_mut().unwrap_or_default() {
        let same = |old: &&k8s_openapi::api::core::v1::ServicePort| {
            old.port == port.port && old.protocol == port.protocol
        };
        port.node_port = port.node_port.or_else(|| old.iter().find(same)?.node_port);
    }
}

/// Whether a Service gives up an address or a port that another may be waiting for.
fn moves(old: &Object, new: &Object) -> bool {
    let address = |object: &Object| object.spec.as_ref().and_then(|spec| spec.cluster_ip.clone());
    let ports = |object: &Object| -> BTreeSet<i32> {
        let ports = object.spec.as_ref().and_then(|spec| spec.ports.as_deref());
        ports.unwrap_or_default().iter().filter_map(|port| port.node_port).collect()
    };
    address(old) != address(new) || !ports(old).is_subset(&ports(new))
}

/// The Service as one that has no address. A cluster address cannot be changed otherwise, and to
/// delete the Service would set the Endpoints controller on its Endpoints.
fn released(old: &Object) -> Object {
    let mut object = Object::default();
    object.metadata.name = old.metadata.name.clone();
    object.metadata.labels = old.metadata.labels.clone();
    object.metadata.resource_version = old.resource_version();
    object.spec = Some(ServiceSpec {
        type_: Some("ExternalName".to_owned()),
        // A name that is never there (RFC 2606).
        external_name: Some("released.invalid".to_owned()),
        ..ServiceSpec::default()
    });
    object
}

fn ingress(object: &Object) -> Vec<String> {
    let balancer = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    ingress.iter().filter_map(|ingress| ingress.ip.clone()).collect()
}

/// In a merge patch, null removes (RFC 7396).
fn addresses(ingress: &[String]) -> Value {
    if ingress.is_empty() {
        return Value::Null;
    }
    ingress.iter().map(|ip| json!({"ip": ip})).collect()
}

/// Endpoints as a set: the server packs and orders subsets as it likes.
fn set(endpoints: &Endpoints) -> BTreeSet<(String, String, String, i32, String)> {
    let mut set = BTreeSet::new();
    for subset in endpoints.subsets.as_deref().unwrap_or_default() {
        for address in subset.addresses.as_deref().unwrap_or_default() {
            for port in subset.ports.as_deref().unwrap_or_default() {
                set.insert((
                    address.ip.clone(),
                    address.node_name.clone().unwrap_or_default(),
                    port.name.clone().unwrap_or_default(),
                    port.port,
                    port.protocol.clone().unwrap_or_default(),
                ));
            }
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::{Addresses, ServerVersion, render};
    use crate::proxy::{Endpoint, Service, sample};

    fn rendered(service: &Service) -> Rendered {
        let version = ServerVersion { number: (1, 33), name: "v1.33.0".to_owned() };
        render(service, Addresses::Table, &version, &BTreeMap::new()).unwrap()
    }

    /// As the server would have it: with a version and defaults.
    fn live(service: &Service) -> (Object, Endpoints) {
        let Rendered { mut service, mut endpoints } = rendered(service);
        service.metadata.resource_version = Some("7".to_owned());
        endpoints.metadata.resource_version = Some("8".to_owned());
        let spec = service.spec.as_mut().unwrap();
        spec.ip_families = Some(vec!["IPv4".to_owned()]);
        spec.cluster_ips = Some(vec![spec.cluster_ip.clone().unwrap()]);
        (service, endpoints)
    }

    fn between(there: &[&Service], wanted: &[&Service]) -> Changes {
        let (services, endpoints): (Vec<_>, Vec<_>) = there.iter().map(|s| live(s)).unzip();
        let wanted = wanted.iter().map(|service| rendered(service)).collect();
        Changes::between(services, &endpoints, wanted).unwrap()
    }

    fn sticky() -> Service {
        sample::every_kind().services.remove(2)
    }

    #[test]
    fn what_is_there_as_wanted_is_left_alone_and_the_rest_goes() {
        let (plain, sticky) = (sample::plain(), sticky());
        let changes = between(&[&plain, &sticky], &[&sticky]);
        assert_eq!(changes.delete, ["plain"]);
        assert!(changes.write.is_empty(), "{changes:?}");
        let port = &sticky.ports[0];
        let placed = &changes.unchanged["sticky"];
        assert_eq!(placed.cluster_ip, sticky.cluster_ip);
        assert_eq!(placed.node_ports, BTreeMap::from([(port.port, port.node_port.unwrap())]));
    }

    #[test]
    fn endpoints_that_differ_replace_those_that_are_there_and_the_service_stays() {
        let old = sample::plain();
        let mut new = old.clone();
        new.ports[0].endpoints.truncate(1);
        let changes = between(&[&old], &[&new]);
        let [write] = &changes.write[..] else { panic!("{changes:?}") };
        assert!(write.service.is_none() && write.release.is_none());
        let endpoints = write.endpoints.as_ref().unwrap();
        assert_eq!(endpoints.resource_version().as_deref(), Some("8"));
    }

    #[test]
    fn the_order_of_endpoints_is_no_difference() {
        let old = sample::plain();
        let mut new = old.clone();
        new.ports[0].endpoints.reverse();
        assert!(between(&[&old], &[&new]).write.is_empty());
        let other = Endpoint { node: "elsewhere".to_owned(), ..new.ports[0].endpoints[0].clone() };
        new.ports[0].endpoints[0] = other;
        assert_eq!(between(&[&old], &[&new]).write.len(), 1);
    }

    #[test]
    fn a_service_gives_its_address_up_before_another_takes_it() {
        let a = sample::plain();
        let b = Service { name: "b".to_owned(), ..sticky() };
        let swapped_a = Service { cluster_ip: b.cluster_ip, ..a.clone() };
        let swapped_b = Service { cluster_ip: a.cluster_ip, ..b.clone() };
        let changes = between(&[&a, &b], &[&swapped_a, &swapped_b]);
        assert_eq!(changes.write.len(), 2);
        for write in &changes.write {
            let released = write.release.as_ref().unwrap().spec.as_ref().unwrap();
            assert_eq!(released.type_.as_deref(), Some("ExternalName"));
            assert_eq!(released.cluster_ip, None);
            assert!(!write.is_new && write.endpoints.is_none());
        }
    }

    #[test]
    fn endpoints_whose_service_is_gone_are_waited_for() {
        let plain = sample::plain();
        let (_, endpoints) = live(&plain);
        let changes = Changes::between(Vec::new(), &[endpoints], vec![rendered(&plain)]).unwrap();
        assert_eq!(changes.stale, ["plain"]);
        let [write] = &changes.write[..] else { panic!("{changes:?}") };
        assert!(write.is_new);
        assert_eq!(write.endpoints.as_ref().unwrap().resource_version(), None);
    }

    #[test]
    fn balancer_addresses_that_are_no_longer_wanted_are_taken_out_of_the_status() {
        let old = sample::every_kind().services.remove(3);
        let new = Service { load_balancer_ips: Vec::new(), ..old.clone() };
        let changes = between(&[&old], &[&new]);
        let patch = changes.write[0].balancer.as_ref().unwrap();
        assert_eq!(patch["status"]["loadBalancer"]["ingress"], Value::Null);
        let changes = between(&[&new], &[&old]);
        let patch = changes.write[0].balancer.as_ref().unwrap();
        assert_eq!(patch["status"]["loadBalancer"]["ingress"][0]["ip"], "10.112.1.4");
    }

    #[test]
    fn two_services_of_one_name_are_refused() {
        let plain = sample::plain();
        let twice = vec![rendered(&plain), rendered(&plain)];
        let refused = Changes::between(Vec::new(), &[], twice).unwrap_err();
        assert!(refused.to_string().ends_with("another of the table has the same name"));
    }
}
