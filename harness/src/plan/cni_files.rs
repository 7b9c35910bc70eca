// SPDX-License-Identifier: Apache-2.0
//! Files of CNIs that come as manifests.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::CniKind;

/// Files of a CNI that comes as a manifest, for the lab kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CniFiles {
    /// Its manifest, in place of the published one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<PathBuf>,
    /// SHA-256 that the manifest has to have, 64 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Archives with its images, as `docker save` writes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<PathBuf>,
}

impl CniFiles {
    /// Whether they can be those of a CNI; otherwise the key and what is wrong with its value.
    pub(in crate::plan) fn check(&self, cni: CniKind) -> Result<(), (&'static str, String)> {
        if !cni.is_by_manifest() {
            return Err(("", format!("{cni} does not come as a manifest")));
        }
        match &self.sha256 {
            Some(_) if self.manifest.is_none() => {
                Err(("sha256", "there is no manifest beside it".to_owned()))
            }
            Some(digest)
                if digest.len() != 64 || !digest.bytes().all(|digit| digit.is_ascii_hexdigit()) =>
            {
                Err(("sha256", format!("`{digest}` is not 64 hexadecimal digits")))
            }
            _ => Ok(()),
        }
    }
}
