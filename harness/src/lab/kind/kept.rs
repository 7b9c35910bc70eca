// SPDX-License-Identifier: Apache-2.0
//! A cluster left up for runs to come says so in a file of its control plane.

use std::fs;
use std::io::ErrorKind;

use serde::{Deserialize, Serialize};

use super::error::ClusterError;
use super::processes::inside;
use crate::plan::{CniKind, Mode};

/// Beside kind's own files.
const FILE: &str = "kind/nic2pod.json";
/// Most that is read of it, bytes.
const BYTES_MAX: u64 = 4096;

/// What a cluster that was kept is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Proxy mode.
    pub mode: Mode,
    /// CNI.
    pub cni: CniKind,
    /// Largest packet between nodes, bytes.
    pub mtu: u32,
    /// SHA-256 of the manifest that the CNI came as, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
}

impl Kept {
    /// Writes it down in the control plane whose container began with this process.
    pub(super) fn write(&self, pid: u32) -> Result<(), ClusterError> {
        let path = inside(pid, FILE);
        let text = serde_json::to_string(self).expect("words and a number are JSON");
        fs::write(&path, text).map_err(|source| ClusterError::File { op: "write", path, source })
    }

    /// Reads it; `None` for a cluster that nobody kept.
    ///
    /// # Errors
    /// It cannot be read, or is not what was written.
    pub fn read(pid: u32) -> Result<Option<Self>, ClusterError> {
        let path = inside(pid, FILE);
        let refused = |source| ClusterError::File { op: "read", path: path.clone(), source };
        match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(refused(error)),
            Ok(metadata) if metadata.len() > BYTES_MAX => {
                return Err(refused(ErrorKind::FileTooLarge.into()));
            }
            Ok(_) => {}
        }
        let text = fs::read_to_string(&path).map_err(refused)?;
        serde_json::from_str(&text).map(Some).map_err(|error| refused(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_other_keys_are_refused() {
        let kept = Kept { mode: Mode::Iptables, cni: CniKind::Ptp, mtu: 1500, manifest: None };
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<Kept>(&text).unwrap(), kept);
        let more = text.replace("}", ",\"x\":1}");
        assert!(serde_json::from_str::<Kept>(&more).is_err());
    }
}
