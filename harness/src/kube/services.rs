// SPDX-License-Identifier: Apache-2.0
//! Makes a namespace hold exactly the Services of a table.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Endpoints, Service as Object};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api as Objects, ResourceExt};

use super::changes::{Changes, Write};
use super::namespace::gone_is_fine;
use super::watch::{Awaited, Which, until};
use super::{Addresses, Api, KubeError, Namespace, render};
use crate::proxy::ServiceTable;

/// Requests under way at once: enough to keep an API server busy, and far below what it queues.
const IN_FLIGHT: usize = 32;
/// How long Endpoints that follow others of their name have to stay before they are taken to.
const STAY: Duration = Duration::from_secs(1);

/// The Services of a namespace.
#[derive(Clone)]
pub struct Services {
    api: Api,
    namespace: Namespace,
    addresses: Addresses,
    services: Objects<Object>,
    endpoints: Objects<Endpoints>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// What a sync did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// Services that were made.
    pub created: usize,
    /// Services that were there and became others.
    pub replaced: usize,
    /// Services that were there and are not in the table.
    pub deleted: usize,
    /// Services that were as the table has them.
    pub unchanged: usize,
    /// Where the table's Services are, by name.
    pub placed: BTreeMap<String, Placed>,
}

/// Where a Service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Cluster address.
    pub cluster_ip: IpAddr,
    /// NodePort of each port that has one, by the port's number.
    pub node_ports: BTreeMap<u16, u16>,
}

impl Services {
    /// Those of `namespace`.
    pub fn new(api: &Api, namespace: &Namespace, addresses: Addresses) -> Self {
        Self {
            api: api.clone(),
            namespace: namespace.clone(),
            addresses,
            services: Objects::namespaced(api.client(), &namespace.name),
            endpoints: Objects::namespaced(api.client(), &namespace.name),
        }
    }

    /// Makes the namespace hold the table's Services, with their endpoints, and no others: makes
    /// what is missing, replaces what differs, deletes what is too much. `progress` is told how many
    /// Services of all that have to be touched are done. The API server holds them then; proxies
    /// follow at their own pace.
    ///
    /// # Errors
    /// The table cannot be written as objects (nothing is touched then), the API server refuses, or
    /// the namespace's own controllers are not done with what was there by the deadline.
    pub async fn sync(
        &self,
        table: &ServiceTable,
        deadline: Instant,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Synced, KubeError> {
        let labels = Namespace::labels(&self.namespace.run);
        let wanted = table
            .services
            .iter()
            .map(|service| render(service, self.addresses, self.api.version(), &labels))
            .collect::<Result<Vec<_>, _>>()?;
        let (services, endpoints) = tokio::try_join!(self.list(), self.list_endpoints())?;
        let changes = Changes::between(services, &endpoints, wanted)?;

        let total = changes.delete.len() + changes.write.len();
        let mut done = 0;
        let mut tick = |by: usize| {
            done += by;
            progress(done, total);
        };
        tick(0);
        // First what is in the way: addresses and ports have to be free before others can have them.
        let removed = stream::iter(&changes.delete).map(|name| self.remove(name));
        let mut removed = std::pin::pin!(removed.buffer_unordered(IN_FLIGHT));
        while let Some(()) = removed.try_next().await? {
            tick(1);
        }
        let released = changes.write.iter().filter_map(|write| write.release.as_ref());
        let released: BTreeMap<String, Object> = stream::iter(released)
            .map(|object| self.replace(object))
            .buffer_unordered(IN_FLIGHT)
            .map_ok(|object| (object.name_any(), object))
            .try_collect()
            .await?;
        self.await_gone(&changes.stale, deadline).await?;

        let mut synced = Synced {
            deleted: changes.delete.len(),
            unchanged: changes.unchanged.len(),
            placed: changes.unchanged,
            ..Synced::default()
        };
        let follow = changes.write.iter().filter(|write| changes.stale.contains(&write.name));
        let followers: Vec<Endpoints> =
            follow.filter_map(|write| write.endpoints.clone()).collect();
        let written = stream::iter(changes.write).map(|write| {
            let released = released.get(&write.name).cloned();
            self.write(write, released)
        });
        let mut written = std::pin::pin!(written.buffer_unordered(IN_FLIGHT));
        while let Some((object, is_new)) = written.try_next().await? {
            *if is_new { &mut synced.created } else { &mut synced.replaced } += 1;
            synced.placed.insert(object.name_any(), Placed::of(&object)?);
            tick(1);
        }
        self.await_staying(&followers, deadline).await?;
        Ok(synced)
    }

    async fn list(&self) -> Result<Vec<Object>, KubeError> {
        let listed = self.services.list(&Default::default()).await;
        let subject = format!("the Services of namespace {}", self.namespace.name);
        Ok(listed.map_err(KubeError::api("list", subject))?.items)
    }

    async fn list_endpoints(&self) -> Result<Vec<Endpoints>, KubeError> {
        let listed = self.endpoints.list(&Default::default()).await;
        let subject = format!("the Endpoints of namespace {}", self.namespace.name);
        Ok(listed.map_err(KubeError::api("list", subject))?.items)
    }

    /// Deletes a Service. Its Endpoints are left to the cluster's controller, which deletes them
    /// whatever is done here, and at its own time (`endpoints_controller.go`, `syncService`).
    async fn remove(&self, name: &str) -> Result<(), KubeError> {
        let deleted = self.services.delete(name, &DeleteParams::default()).await;
        gone_is_fine(deleted).map_err(KubeError::api("delete", format!("Service {name}")))
    }

    async fn replace(&self, object: &Object) -> Result<Object, KubeError> {
        let name = object.name_any();
        let replaced = self.services.replace(&name, &PostParams::default(), object).await;
        replaced.map_err(KubeError::api("replace", format!("Service {name}")))
    }

    /// Waits until the controller has deleted the Endpoints of Services that are gone: it would
    /// delete those that are to be made under the same names.
    async fn await_gone(&self, stale: &[String], deadline: Instant) -> Result<(), KubeError> {
        if stale.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        let left = |seen: &BTreeMap<String, Endpoints>| {
            stale.iter().filter(|name| seen.contains_key(*name)).count()
        };
        let look = |seen: &BTreeMap<String, Endpoints>| Ok((left(seen) == 0).then_some(()));
        let subject = format!("the Endpoints of namespace {}", self.namespace.name);
        match until(&self.endpoints, &Which::default(), &subject, deadline.into(), look).await? {
            Awaited::Done(()) => Ok(()),
            Awaited::Late(seen) => Err(KubeError::Late {
                subject: "the Endpoints of deleted Services gone".to_owned(),
                waited: begun.elapsed(),
                found: format!("the controller manager has left {} of them", left(&seen)),
            }),
        }
    }

    /// Makes Endpoints again that do not stay. The controller takes a Service's key up once more when its
    /// Endpoints are deleted (`endpoints_controller.go`, `onEndpointsDelete`); where it has not heard of the
    /// new Service of that name yet, it deletes the new Endpoints.
    ///
    /// Those that stay are touched: what kube-proxy reads is copies of them (EndpointSlices), which their
    /// controller deletes with the old ones at its own time, and does not make again where it believes that it
    /// has them still (`endpointslicemirroring_controller.go`, `syncEndpoints`). That is read there; seen were
    /// connections that were refused for two minutes.
    async fn await_staying(
        &self,
        wanted: &[Endpoints],
        deadline: Instant,
    ) -> Result<(), KubeError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let subject = format!("the Endpoints of namespace {}", self.namespace.name);
        let look = |seen: &BTreeMap<String, Endpoints>| {
            Ok(wanted.iter().position(|endpoints| !seen.contains_key(&endpoints.name_any())))
        };
        while Instant::now() < deadline {
            let quiet = Instant::now() + STAY;
            match until(&self.endpoints, &Which::default(), &subject, quiet.into(), look).await {
                Ok(Awaited::Done(gone)) => {
                    let name = wanted[gone].name_any();
                    let created =
                        self.endpoints.create(&PostParams::default(), &wanted[gone]).await;
                    created.map_err(KubeError::api("create", format!("Endpoints {name}")))?;
                }
                Ok(Awaited::Late(_)) => break,
                // A server that is slow to list has not been looked at for long enough.
                Err(KubeError::Silent { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let names: Vec<String> = wanted.iter().map(ResourceExt::name_any).collect();
        stream::iter(&names)
            .map(|name| self.touch(name))
            .buffer_unordered(IN_FLIGHT)
            .try_for_each(|()| async { Ok(()) })
            .await
    }

    /// Changes a Service's Endpoints in nothing that anybody reads, so that their controllers look at them again.
    ///
    /// # Errors
    /// The API server refuses, or has none.
    pub async fn touch(&self, name: &str) -> Result<(), KubeError> {
        let seen =
            serde_json::json!({ "metadata": { "annotations": { "nic2pod.dev/stays": "" } } });
        let (how, patch) = (PatchParams::default(), Patch::Merge(&seen));
        let patched = self.endpoints.patch(name, &how, &patch).await;
        patched.map_err(KubeError::api("touch", format!("Endpoints {name}"))).map(drop)
    }

    /// Writes a Service, then what depends on it. Returns it, and whether it is a new one.
    async fn write(
        &self,
        write: Write,
        released: Option<Object>,
    ) -> Result<(Object, bool), KubeError> {
        let Write { name, service, is_new, endpoints, balancer, current, .. } = write;
        let (post, subject) = (PostParams::default(), format!("Service {name}"));
        let object = match service {
            Some(object) if is_new => {
                let created = self.services.create(&post, &object).await;
                created.map_err(KubeError::api("create", &*subject))?
            }
            Some(mut object) => {
                if let Some(released) = released {
                    object.metadata.resource_version = released.metadata.resource_version;
                }
                self.replace(&object).await?
            }
            None => current.expect("what is not written is there"),
        };
        if let Some(endpoints) = endpoints {
            let subject = format!("Endpoints {name}");
            if endpoints.metadata.resource_version.is_some() {
                let replaced = self.endpoints.replace(&name, &post, &endpoints).await;
                replaced.map_err(KubeError::api("replace", subject))?;
            } else {
                let created = self.endpoints.create(&post, &endpoints).await;
                created.map_err(KubeError::api("create", subject))?;
            }
        }
        if let Some(patch) = balancer {
            let merge = PatchParams::default();
            let patched = self.services.patch_status(&name, &merge, &Patch::Merge(&patch)).await;
            patched.map_err(KubeError::api("write the status of", subject))?;
        }
        Ok((object, is_new))
    }
}

impl Placed {
    /// Reads a Service as the server has it.
    pub(super) fn of(object: &Object) -> Result<Self, KubeError> {
        let spec = object.spec.as_ref();
        let address = spec.and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
        let cluster_ip = address.parse().map_err(|_unparsed| KubeError::Answer {
            subject: format!("Service {}", object.name_any()),
            problem: format!("its cluster address is `{address}`, not one of version 4"),
        })?;
        let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
        let node_port = |port: &k8s_openapi::api::core::v1::ServicePort| {
            let node_port = u16::try_from(port.node_port?).ok().filter(|port| *port > 0)?;
            Some((u16::try_from(port.port).ok()?, node_port))
        };
        Ok(Self { cluster_ip, node_ports: ports.iter().filter_map(node_port).collect() })
    }
}
