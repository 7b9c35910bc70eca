// SPDX-License-Identifier: Apache-2.0
//! Flags about clusters, of several commands.

use std::path::PathBuf;

use clap::Args;
use harness::plan::CniKind;

/// Clusters.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ClusterArgs {
    #[command(flatten)]
    pub(crate) kind: KindArgs,
    /// Context of the kubeconfig that names the cluster
    #[arg(long, value_name = "NAME", help_heading = "Labs kind and kubeconfig")]
    pub(crate) context: Option<String>,
    /// Jobs that load a cluster that exists, spread over its nodes
    #[arg(long, value_name = "N", help_heading = "Labs kind and kubeconfig")]
    pub(crate) load_workers: Option<u32>,
    /// Image with nic2pod's agents in a registry that the cluster reaches; kind's nodes are given theirs
    #[arg(long, value_name = "REF", help_heading = "Labs kind and kubeconfig")]
    pub(crate) image: Option<String>,
    /// Put probes on the nodes of a cluster that exists, in privileged pods of the run's own namespace: its
    /// cases then have stages
    #[arg(long, help_heading = "Labs kind and kubeconfig")]
    pub(crate) probes: bool,
}

/// kind's clusters.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct KindArgs {
    /// kind's program [default: $KIND, or kind in PATH]
    #[arg(long, value_name = "FILE", help_heading = "Labs kind and kubeconfig")]
    pub(crate) kind_bin: Option<PathBuf>,
    /// Image of the nodes of a kind cluster [default: $NIC2POD_KIND_IMAGE, or kind's own]
    #[arg(long, value_name = "REF", help_heading = "Labs kind and kubeconfig")]
    pub(crate) node_image: Option<String>,
    /// Leave the run's kind clusters up, for a run to come
    #[arg(long, help_heading = "Labs kind and kubeconfig")]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) cni_files: CniArgs,
}

/// Files of CNIs that come as manifests.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CniArgs {
    /// Manifest of flannel, calico or cilium in lab kind, in place of the published one
    #[arg(
        long = "cni-manifest", value_name = "CNI=FILE", value_parser = cni_file,
        help_heading = "Labs kind and kubeconfig"
    )]
    pub(crate) manifests: Vec<(CniKind, PathBuf)>,
    /// Archive with the images of that CNI, as docker save writes it, for clusters without a network
    #[arg(
        long = "cni-images", value_name = "CNI=FILE", value_parser = cni_file,
        help_heading = "Labs kind and kubeconfig"
    )]
    pub(crate) images: Vec<(CniKind, PathBuf)>,
}

fn cni_file(text: &str) -> Result<(CniKind, PathBuf), String> {
    let (cni, file) = text.split_once('=').ok_or_else(|| {
        format!("`{text}` is not a CNI and a file, for example flannel=flannel.yml")
    })?;
    let cni: CniKind = cni.parse()?;
    if !cni.is_by_manifest() {
        return Err(format!("{cni} does not come as a manifest"));
    }
    Ok((cni, file.into()))
}
