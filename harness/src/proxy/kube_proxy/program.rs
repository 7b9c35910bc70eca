// SPDX-License-Identifier: Apache-2.0
//! Which program stands in for our own modes: a result says so, byte for byte.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::Unavailable;
use crate::net::{Netns, Tool};
use crate::plan::Mode;
use crate::proxy::error::one_line;

/// How long it may take to say its version.
const PATIENCE: Duration = Duration::from_secs(20);
/// What supplies one.
const REMEDY: &str = "--proxy-bin PATH of a kube-proxy for this machine: it is in the image \
                      registry.k8s.io/kube-proxy (docker create, docker cp)";

/// A kube-proxy program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it is, absolute.
    pub path: PathBuf,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// What it says of its version: `Kubernetes v1.20.2`.
    pub version: String,
    /// Minor version of Kubernetes 1.
    minor: u32,
}

impl Program {
    /// Looks at a program and asks it for its version, in a namespace made for questions.
    ///
    /// # Errors
    /// It is not there, does not run here, or is no kube-proxy.
    pub fn find(path: &Path, question: &Netns) -> Result<Self, Unavailable> {
        let lacking = |found: String| {
            let need = format!("a kube-proxy program at {}", path.display());
            Unavailable::new(need, found, REMEDY)
        };
        let absolute = path.canonicalize().map_err(|error| lacking(error.to_string()))?;
        let said = Tool::new(absolute.to_string_lossy())
            .args(["--version"])
            .within(PATIENCE)
            .run_on(question)
            .map_err(|error| lacking(one_line(&error)))?;
        let version = said.trim().to_owned();
        let minor = minor(&version)
            .ok_or_else(|| lacking(format!("`--version` says `{}`", one_line(&version))))?;
        let sha256 = sha256(&absolute).map_err(|error| lacking(error.to_string()))?;
        Ok(Self { path: absolute, sha256, version, minor })
    }

    /// Whether it has a mode.
    ///
    /// # Errors
    /// It has not, or has it without our being able to prove it.
    pub fn has(&self, mode: Mode) -> Result<(), Unavailable> {
        let lacking = |need: &str, remedy: &str| {
            Err(Unavailable::new(need, format!("mode {mode} and {self}"), remedy))
        };
        match mode {
            Mode::Iptables | Mode::Ipvs => Ok(()),
            // Beta, and on, since 1.31 (KEP-3866).
            Mode::Nftables if self.minor >= 31 => Ok(()),
            Mode::Nftables => lacking(
                "a kube-proxy that has mode nftables without feature gates, Kubernetes 1.31 or later",
                "--proxy own, or a newer program",
            ),
            Mode::None | Mode::Userspace | Mode::Ebpf => lacking(
                "a mode that a kube-proxy can stand in for: iptables, ipvs, nftables",
                "--proxy own",
            ),
        }
    }

    /// Whether it knows `internalTrafficPolicy`: beta, and on, since 1.22 (KEP-2086). Before, it takes
    /// all endpoints.
    pub fn knows_internal_policy(&self) -> bool {
        self.minor >= 22
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, sha256, version, .. } = self;
        write!(f, "kube-proxy {} ({version}, sha256 {sha256})", path.display())
    }
}

/// The minor version in `Kubernetes v1.20.2`, also with a suffix of the builder's.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("Kubernetes v1.")?.split(['.', '+', '-']).next()?.parse().ok()
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_with_and_without_suffixes() {
        assert_eq!(minor("Kubernetes v1.20.2"), Some(20));
        assert_eq!(minor("Kubernetes v1.36.0-alpha.1+a1b2c3"), Some(36));
        assert_eq!(minor("busybox 1.36"), None);
        assert_eq!(minor(""), None);
    }

    #[test]
    fn a_program_that_is_no_kube_proxy_is_refused_with_what_it_says() {
        let here = Netns::here("question").unwrap();
        let refused = Program::find(Path::new("/bin/true"), &here).unwrap_err();
        assert!(refused.found.starts_with("`--version` says `true "), "{refused}");
        let refused = Program::find(Path::new("/no/such"), &here).unwrap_err();
        assert!(refused.found.contains("No such file"), "{refused}");
    }

    #[test]
    fn a_mode_it_does_not_have_is_a_reason_to_skip() {
        let (path, sha256) = (PathBuf::from("/kube-proxy"), "00".to_owned());
        let old = Program { path, sha256, version: "Kubernetes v1.20.2".to_owned(), minor: 20 };
        assert_eq!(old.has(Mode::Iptables), Ok(()));
        assert!(old.has(Mode::Nftables).unwrap_err().need.contains("1.31 or later"));
        assert!(old.has(Mode::Ebpf).unwrap_err().found.contains("mode ebpf and kube-proxy"));
        assert_eq!(Program { minor: 31, ..old }.has(Mode::Nftables), Ok(()));
    }
}
