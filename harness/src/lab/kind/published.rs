// SPDX-License-Identifier: Apache-2.0
//! Manifests of CNIs that their projects publish: where, of which version, and what they have to be.

use crate::plan::CniKind;

/// A manifest on the network.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) cni: CniKind,
    pub(super) version: &'static str,
    /// Where it is, or how it is made.
    pub(super) origin: &'static str,
    /// Its SHA-256. Without one it is not fetched: nobody could say whether it is what it was.
    pub(super) sha256: Option<&'static str>,
    /// Images that it runs.
    pub(super) images: &'static [&'static str],
}

/// One for each CNI that comes as a manifest.
const ALL: [Published; 3] = [
    Published {
        cni: CniKind::Flannel,
        version: "v0.20.2",
        // By commit, which a tag could be moved away from.
        origin: "https://raw.githubusercontent.com/flannel-io/flannel/\
                 3b242e9e7d72ff444c8d56566e3f2e75eb64d1e8/Documentation/kustomization/kube-flannel/\
                 kube-flannel.yml",
        sha256: Some("9f7d080c36c6f98444b30b92bfa9beabb12b2f7aa7c38de6bf6da5dee1f496b7"),
        images: &[
            "docker.io/flannel/flannel-cni-plugin:v1.1.2",
            "docker.io/flannel/flannel:v0.20.2",
        ],
    },
    Published {
        cni: CniKind::Calico,
        version: "v3.25.0",
        origin: "https://raw.githubusercontent.com/projectcalico/calico/v3.25.0/manifests/calico.yaml",
        // The project publishes none for its manifests.
        sha256: None,
        images: &[
            "docker.io/calico/cni:v3.25.0",
            "docker.io/calico/kube-controllers:v3.25.0",
            "docker.io/calico/node:v3.25.0",
        ],
    },
    Published {
        cni: CniKind::Cilium,
        version: "of your choice",
        // The project publishes a chart, of which the manifest is made.
        origin: "helm template cilium cilium/cilium --namespace kube-system",
        sha256: None,
        images: &[],
    },
];

/// The one of a CNI; `None` for a CNI that does not come as a manifest.
pub(super) fn published(cni: CniKind) -> Option<&'static Published> {
    ALL.iter().find(|published| published.cni == cni)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cni_that_comes_as_a_manifest_has_one() {
        for &cni in CniKind::ALL {
            assert_eq!(published(cni).is_some(), cni.is_by_manifest(), "{cni}");
        }
    }

    #[test]
    fn what_has_a_digest_is_at_an_address() {
        for published in ALL.iter().filter(|published| published.sha256.is_some()) {
            assert!(published.origin.starts_with("https://"), "{published:?}");
            assert!(!published.images.is_empty(), "{published:?}");
            let digest = published.sha256.unwrap();
            assert!(digest.len() == 64 && digest.bytes().all(|digit| digit.is_ascii_hexdigit()));
        }
    }
}
