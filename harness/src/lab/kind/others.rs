// SPDX-License-Identifier: Apache-2.0
//! CNIs of others: what they need to come into a cluster, and their being there.

use std::fs;
use std::time::{Duration, Instant};

use super::control::Control;
use super::error::ClusterError;
use super::node::Node;
use super::processes::inside;
use super::supplies::{Supplies, Supply};
use crate::docker::image::images_in_node;
use crate::docker::{DockerError, Engine};
use crate::kube::{Daemon, KubeError, Manifest};
use crate::lab::LabError;
use crate::plan::CniKind;
use crate::{Cancel, Unavailable};

/// Where kind keeps the manifest of its own CNI, a template, in the image of the nodes
/// (sigs.k8s.io/kind, pkg/build/nodeimage).
const TEMPLATE: &str = "/kind/manifests/default-cni.yaml";
/// Namespace that kind's own CNI runs in.
const NAMESPACE: &str = "kube-system";
/// Most that is read of the template, bytes.
const TEMPLATE_MAX: u64 = 1 << 20;
/// Where an archive of images is while a node imports it.
const ARCHIVE: &str = "var/nic2pod-images.tar";
/// How long a node may take to import one: Cilium's is 600 MB.
const IMPORT_MAX: Duration = Duration::from_secs(300);
/// How long a CNI may take to run on all nodes: images may have to be fetched.
const RUNS_MAX: Duration = Duration::from_secs(240);
/// How often, while a CNI is waited for, a stop is looked for.
const GLANCE: Duration = Duration::from_secs(2);

/// How a cluster comes by its CNI.
#[derive(Clone, Copy, Debug)]
pub(super) enum Recipe<'a> {
    /// nic2pod wires it.
    Own,
    /// kind does, with what the nodes' image holds.
    OfImage,
    /// A manifest does.
    Manifest(&'a Supply),
}

impl<'a> Recipe<'a> {
    /// That of a CNI.
    pub(super) fn of(cni: CniKind, supplies: &'a Supplies) -> Result<Self, Unavailable> {
        match cni {
            CniKind::Ptp | CniKind::Bridge | CniKind::Vxlan => Ok(Self::Own),
            CniKind::Kindnet => Ok(Self::OfImage),
            CniKind::Ipvlan | CniKind::Macvlan | CniKind::Exec => Err(Unavailable::new(
                "a CNI that the lab kind has (ptp, bridge, vxlan, kindnet, flannel, calico, cilium)",
                format!("cni {cni}"),
                "--lab netns",
            )),
            CniKind::Flannel | CniKind::Calico | CniKind::Cilium => {
                let supply = supplies.of(cni)?;
                Ok(supply.map_or(Self::Own, Self::Manifest))
            }
        }
    }

    /// SHA-256 of its manifest, where it has one.
    pub(super) fn sha256(&self) -> Option<&'a str> {
        match self {
            Self::Manifest(supply) => Some(&supply.sha256),
            Self::Own | Self::OfImage => None,
        }
    }

    /// What a reader of the figures has to know of it.
    pub(super) fn notes(&self, cni: CniKind, image: &str) -> Vec<String> {
        let origin = match self {
            Self::Own => return Vec::new(),
            Self::OfImage => format!("CNI {cni} as the node image {image} has it"),
            Self::Manifest(Supply { source, sha256, .. }) => {
                format!("CNI {cni}: manifest {source}, SHA-256 {sha256}")
            }
        };
        let stages = format!(
            "between the entry node's NIC and the pod all is one stage: devices and hooks are {cni}'s own affair"
        );
        vec![origin, stages]
    }
}

/// Whether the image of the nodes has a CNI of kind's, before a cluster is made of it.
pub(super) fn image_has_cni(engine: &Engine, image: &str, run: &str) -> Result<(), LabError> {
    let template = engine.file_in_image(image, TEMPLATE, run).map_err(ClusterError::from)?;
    let text = template.as_deref().map(String::from_utf8_lossy);
    if text.as_deref().is_some_and(|text| text.contains("DaemonSet")) {
        return Ok(());
    }
    let found = match text {
        None => format!("no {TEMPLATE} in image {image}"),
        Some(text) if text.trim().is_empty() => format!("an empty {TEMPLATE} in image {image}"),
        Some(_) => format!("no DaemonSet in {TEMPLATE} of image {image}"),
    };
    Err(Unavailable::new("an image of kind's nodes with kindnet", found, REMEDY).into())
}

const REMEDY: &str = "--node-image kindest/node:VERSION, as kind publishes them";

/// Brings a CNI into a cluster that is new, and waits until it runs on all nodes.
pub(super) fn install(
    engine: &Engine,
    control: &Control,
    nodes: &[Node],
    recipe: Recipe<'_>,
    cancel: &Cancel,
) -> Result<(), LabError> {
    let deadline = Instant::now() + RUNS_MAX;
    let daemons = match recipe {
        Recipe::Own => return Ok(()),
        Recipe::OfImage => {
            images_are_there(engine, nodes)?;
            control.run(move |api| async move { api.daemons(NAMESPACE).await })?
        }
        Recipe::Manifest(supply) => {
            for node in nodes {
                supply.images.iter().try_for_each(|archive| import(engine, node, archive))?;
            }
            let manifest = Manifest::parse(&supply.manifest).map_err(ClusterError::from)?;
            let daemons = manifest.daemons();
            control.run(move |api| async move { api.apply(&manifest, deadline).await })?;
            daemons
        }
    };
    runs(control, &daemons, deadline, cancel)
}

/// Waits until DaemonSets are ready, and looks for a stop meanwhile.
fn runs(
    control: &Control,
    daemons: &[Daemon],
    deadline: Instant,
    cancel: &Cancel,
) -> Result<(), LabError> {
    loop {
        let (asked, until) = (daemons.to_vec(), deadline.min(Instant::now() + GLANCE));
        let ready = control.run(move |api| async move { api.await_daemons(&asked, until).await });
        match ready {
            Err(_) if cancel.requested() => return Err(LabError::Cancelled),
            Err(LabError::Kind(ClusterError::Kube(KubeError::Late { .. })))
                if Instant::now() < deadline => {}
            Err(LabError::Kind(ClusterError::Kube(KubeError::Late { subject, found, .. }))) => {
                let waited = RUNS_MAX;
                return Err(ClusterError::NotInTime { what: subject, waited, found }.into());
            }
            ready => return ready,
        }
    }
}

/// Whether nodes have the images of kind's own CNI: they come with the nodes' image or not at all.
fn images_are_there(engine: &Engine, nodes: &[Node]) -> Result<(), LabError> {
    for node in nodes {
        let path = inside(node.pid, TEMPLATE.trim_start_matches('/'));
        let failed = |source| ClusterError::File { op: "read", path: path.clone(), source };
        let size = fs::metadata(&path).map_err(failed)?.len();
        if size > TEMPLATE_MAX {
            return Err(failed(std::io::ErrorKind::FileTooLarge.into()).into());
        }
        let template = fs::read_to_string(&path).map_err(failed)?;
        let there = images_in_node(engine, &node.name).map_err(ClusterError::from)?;
        let absent = images(&template).find(|image| !there.iter().any(|name| is(name, image)));
        if let Some(image) = absent {
            let found = format!("{} without its image {image}", node.name);
            return Err(Unavailable::new("nodes with kindnet's image", found, REMEDY).into());
        }
    }
    Ok(())
}

/// Images that a template of a manifest names, line by line: it is no YAML yet.
fn images(template: &str) -> impl Iterator<Item = &str> {
    let lines = template.lines().map(|line| line.trim().trim_start_matches("- "));
    lines.filter_map(|line| Some(line.strip_prefix("image:")?.trim().trim_matches(['"', '\''])))
}

/// Whether a full name is that of an image, whose name may say neither registry nor library.
fn is(full: &str, image: &str) -> bool {
    full == image || full.strip_suffix(image).is_some_and(|before| before.ends_with('/'))
}

/// Has a node import an archive of images. It is put beside the node's own files first: archives may be
/// larger than is held in memory.
fn import(engine: &Engine, node: &Node, archive: &std::path::Path) -> Result<(), LabError> {
    const OP: &str = "import images into";
    let path = inside(node.pid, ARCHIVE);
    let copied = fs::copy(archive, &path).map_err(|source| ClusterError::File {
        op: "write",
        path: path.clone(),
        source,
    });
    let imported = copied.and_then(|_| {
        let at = format!("/{ARCHIVE}");
        let command = ["ctr", "-n", "k8s.io", "images", "import", "--all-platforms", &at];
        let done = engine.exec(&node.name, &command, &[], IMPORT_MAX)?;
        match done.code {
            0 => Ok(()),
            code => Err(DockerError::command(OP, &node.name, code, &done.stderr).into()),
        }
    });
    let removed = fs::remove_file(&path);
    imported?;
    removed.map_err(|source| ClusterError::File { op: "remove", path, source }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_a_template_are_found_line_by_line() {
        let template = "      containers:\n      - name: kindnet-cni\n        image: docker.io/kindest/kindnetd:v1\n\
                        \x20       env: [{{ .PodSubnet }}]\n      - image: \"busybox\"\n";
        let found: Vec<_> = images(template).collect();
        assert_eq!(found, ["docker.io/kindest/kindnetd:v1", "busybox"]);
    }

    #[test]
    fn a_short_name_is_that_of_a_full_one_and_not_of_one_that_ends_alike() {
        assert!(is("docker.io/kindest/kindnetd:v1", "docker.io/kindest/kindnetd:v1"));
        assert!(is("docker.io/kindest/kindnetd:v1", "kindest/kindnetd:v1"));
        assert!(!is("docker.io/other-kindest/kindnetd:v1", "kindest/kindnetd:v1"));
    }

    #[test]
    fn every_cni_but_those_of_namespaces_has_a_way_into_a_cluster() {
        let supplies = Supplies::default();
        for &cni in CniKind::ALL {
            let missing = Recipe::of(cni, &supplies).is_err();
            let of_namespaces = matches!(cni, CniKind::Ipvlan | CniKind::Macvlan | CniKind::Exec);
            assert_eq!(missing, of_namespaces || cni.is_by_manifest(), "{cni}");
        }
    }
}
