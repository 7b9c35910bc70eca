// SPDX-License-Identifier: Apache-2.0
//! A manifest: objects of any kind, as YAML documents, and the making of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kube::api::{DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::discovery::{Scope, pinned_kind};
use kube::{Api as Objects, ResourceExt};
use serde_json::Value;

use super::{Api, Daemon, KubeError};

/// Most objects of one manifest; Calico's has forty.
const OBJECTS_MAX: usize = 1000;
/// How often a server is asked for a kind that the manifest itself defines.
const GLANCE: Duration = Duration::from_millis(200);

/// Objects, in the order they are to be made.
#[derive(Clone, Debug)]
pub struct Manifest {
    objects: Vec<DynamicObject>,
}

impl Manifest {
    /// Reads YAML documents. Lists are taken apart.
    ///
    /// # Errors
    /// The text is not YAML, or a document is no object.
    pub fn parse(text: &str) -> Result<Self, KubeError> {
        let wrong =
            |problem: String| KubeError::Value { subject: "a manifest".to_owned(), problem };
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(text).map_err(|error| wrong(error.to_string()))?;
        let mut objects = Vec::new();
        for document in documents {
            let items = match document.get("items") {
                Some(Value::Array(items)) if document["kind"] == "List" => items.clone(),
                _ => vec![document],
            };
            for item in items {
                let object: DynamicObject = serde_json::from_value(item)
                    .map_err(|error| wrong(format!("document {}: {error}", objects.len() + 1)))?;
                if object.types.is_none() || object.metadata.name.is_none() {
                    let nth = objects.len() + 1;
                    return Err(wrong(format!("document {nth} has no apiVersion, kind and name")));
                }
                objects.push(object);
            }
        }
        if objects.is_empty() || objects.len() > OBJECTS_MAX {
            return Err(wrong(format!("it has {} objects", objects.len())));
        }
        Ok(Self { objects })
    }

    /// Its DaemonSets.
    pub fn daemons(&self) -> Vec<Daemon> {
        let of = |object: &DynamicObject| {
            let kind = object.types.as_ref().map(|types| types.kind.as_str());
            (kind == Some("DaemonSet"))
                .then(|| Daemon { namespace: namespace(object), name: object.name_any() })
        };
        self.objects.iter().filter_map(of).collect()
    }

    /// Images that its containers run from.
    pub fn images(&self) -> BTreeSet<String> {
        let mut images = BTreeSet::new();
        self.objects.iter().for_each(|object| collect_images(&object.data, &mut images));
        images
    }

    /// Whether it defines a kind itself.
    fn defines(&self, gvk: &GroupVersionKind) -> bool {
        self.objects.iter().any(|object| {
            let spec = &object.data["spec"];
            spec["group"] == *gvk.group && spec["names"]["kind"] == *gvk.kind
        })
    }
}

impl Api {
    /// Makes a manifest's objects, one after the other; one that is there already is changed to be as
    /// the manifest has it. Returns how many there are.
    ///
    /// # Errors
    /// The API server does not know a kind, or refuses an object; those before are there then.
    pub async fn apply(&self, manifest: &Manifest, deadline: Instant) -> Result<usize, KubeError> {
        let mut known: BTreeMap<String, (ApiResource, bool)> = BTreeMap::new();
        for object in &manifest.objects {
            let subject = subject(object);
            let types = object.types.as_ref().expect("a manifest's objects have a kind");
            let gvk = GroupVersionKind::try_from(types).map_err(|error| KubeError::Value {
                subject: subject.clone(),
                problem: error.to_string(),
            })?;
            let key = format!("{}/{}", types.api_version, types.kind);
            if !known.contains_key(&key) {
                let found = self.kind(&gvk, manifest.defines(&gvk), &subject, deadline).await?;
                known.insert(key.clone(), found);
            }
            let (resource, namespaced) = &known[&key];
            let objects: Objects<DynamicObject> = if *namespaced {
                Objects::namespaced_with(self.client(), &namespace(object), resource)
            } else {
                Objects::all_with(self.client(), resource)
            };
            match objects.create(&PostParams::default(), object).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => {
                    let patch = Patch::Merge(object);
                    let name = object.name_any();
                    let patched = objects.patch(&name, &PatchParams::default(), &patch).await;
                    patched.map_err(KubeError::api("change", subject))?;
                }
                created => drop(created.map_err(KubeError::api("create", subject))?),
            }
        }
        Ok(manifest.objects.len())
    }

    /// Where objects of a kind are, and whether in namespaces. A kind that the manifest defines is
    /// waited for.
    async fn kind(
        &self,
        gvk: &GroupVersionKind,
        to_come: bool,
        subject: &str,
        deadline: Instant,
    ) -> Result<(ApiResource, bool), KubeError> {
        loop {
            match pinned_kind(&self.client(), gvk).await {
                Ok((resource, capabilities)) => {
                    return Ok((resource, capabilities.scope == Scope::Namespaced));
                }
                Err(error) => {
                    let unknown = match &error {
                        kube::Error::Discovery(_) => true,
                        // A group that is not there is a page that is not there, and no object's status.
                        kube::Error::Api(status) => status.is_not_found() || status.code == 404,
                        _ => false,
                    };
                    if !unknown {
                        return Err(KubeError::api("look for the kind of", subject)(error));
                    }
                    if !to_come || Instant::now() > deadline {
                        let GroupVersionKind { group, version, kind } = gvk;
                        return Err(KubeError::Value {
                            subject: subject.to_owned(),
                            problem: format!(
                                "Kubernetes {} does not know {kind} of {group}/{version}",
                                self.version()
                            ),
                        });
                    }
                    // Nothing says when a kind has come to be served; the server is asked again.
                    tokio::time::sleep(GLANCE).await;
                }
            }
        }
    }
}

fn subject(object: &DynamicObject) -> String {
    let kind = object.types.as_ref().map_or("object", |types| types.kind.as_str());
    format!("{kind} {}", object.name_any())
}

/// Where an object that names no namespace goes, if it goes into one at all.
fn namespace(object: &DynamicObject) -> String {
    object.namespace().unwrap_or_else(|| "default".to_owned())
}

fn collect_images(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::Array(containers) if key == "containers" || key == "initContainers" => {
                        let images = containers.iter().filter_map(|c| c["image"].as_str());
                        into.extend(images.map(str::to_owned));
                    }
                    value => collect_images(value, into),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect_images(value, into)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: net}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: net}, data: {a: 'on'}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: pools.example.org}
spec: {group: example.org, names: {kind: Pool}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: net}
spec:
  template:
    spec:
      initContainers: [{name: a, image: 'one:1'}]
      containers: [{name: b, image: 'two:2'}, {name: c, image: 'one:1'}]
---
# Nothing but a comment.
";

    #[test]
    fn documents_are_objects_and_lists_are_taken_apart() {
        let manifest = Manifest::parse(TEXT).unwrap();
        let names: Vec<_> = manifest.objects.iter().map(subject).collect();
        assert_eq!(
            names,
            [
                "Namespace net",
                "ConfigMap c",
                "CustomResourceDefinition pools.example.org",
                "DaemonSet agent"
            ]
        );
        let agent = Daemon { namespace: "net".to_owned(), name: "agent".to_owned() };
        assert_eq!(manifest.daemons(), [agent]);
        let images: Vec<_> = manifest.images().into_iter().collect();
        assert_eq!(images, ["one:1", "two:2"]);
        assert!(manifest.defines(&GroupVersionKind::gvk("example.org", "v1", "Pool")));
        assert!(!manifest.defines(&GroupVersionKind::gvk("apps", "v1", "DaemonSet")));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "just words", "a: [", "kind: Pod\n", "apiVersion: v1\nkind: Pod\n"] {
            let error = Manifest::parse(text).unwrap_err().to_string();
            assert!(
                error.starts_with("failed to write a manifest as a Kubernetes object"),
                "{error}"
            );
        }
    }
}
