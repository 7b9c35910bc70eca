// SPDX-License-Identifier: Apache-2.0
//! The `kind` program, found.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::KindError;
use crate::Unavailable;
use crate::docker::Engine;
use crate::net::process::search_path;

/// Names the program where no flag does.
const VARIABLE: &str = "KIND";

/// The program that makes clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    program: PathBuf,
}

impl Kind {
    /// The program a flag names, else the one `KIND` names, else the first in PATH.
    ///
    /// # Errors
    /// It is not there, or Docker's command line, which it calls, is not.
    pub fn find(flag: Option<&Path>) -> Result<Self, Unavailable> {
        let kind = Self::among(flag, std::env::var_os(VARIABLE).as_deref())?;
        if in_path("docker").is_none() {
            return Err(Unavailable::new(
                "Docker's command line, which kind calls",
                "no docker in PATH",
                "apt-get install docker.io, or docker-ce-cli",
            ));
        }
        Ok(kind)
    }

    fn among(flag: Option<&Path>, variable: Option<&OsStr>) -> Result<Self, Unavailable> {
        const REMEDY: &str =
            "install kind (https://kind.sigs.k8s.io), or name it with --kind-bin or KIND";
        let named = flag.map(|path| ("--kind-bin", path)).or_else(|| {
            variable.filter(|path| !path.is_empty()).map(|path| (VARIABLE, Path::new(path)))
        });
        match named {
            Some((_, path)) if path.is_file() => Ok(Self { program: path.to_owned() }),
            Some((by, path)) => {
                let found = format!("no file {}, which {by} names", path.display());
                Err(Unavailable::new("kind", found, REMEDY))
            }
            None => in_path("kind")
                .map(|program| Self { program })
                .ok_or_else(|| Unavailable::new("kind", "no kind in PATH", REMEDY)),
        }
    }

    /// Where it is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its version, for example `v0.27.0`.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn version(&self) -> Result<String, KindError> {
        let output = Command::new(&self.program)
            .args(["version", "-q"])
            .output()
            .map_err(|source| KindError::Start { program: self.shown(), source })?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// A command of it that talks to the same Engine.
    pub(super) fn command(&self, engine: &Engine) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("PATH", search_path())
            .env("DOCKER_HOST", format!("unix://{}", engine.socket().display()))
            .env_remove("KIND_EXPERIMENTAL_PROVIDER")
            .env_remove("KUBECONFIG")
            .env_remove("KIND_CLUSTER_NAME");
        command
    }

    pub(super) fn shown(&self) -> String {
        self.program.display().to_string()
    }
}

fn in_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path())
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_over_the_variable() {
        let (flag, variable) = (Path::new("/bin/sh"), OsStr::new("/no/such/kind"));
        let kind = Kind::among(Some(flag), Some(variable)).unwrap();
        assert_eq!(kind.program(), flag);
    }

    #[test]
    fn a_name_that_leads_nowhere_is_named_with_who_named_it() {
        let missing = Kind::among(None, Some(OsStr::new("/no/such/kind"))).unwrap_err();
        assert_eq!(missing.found, "no file /no/such/kind, which KIND names");
        let missing = Kind::among(Some(Path::new("/no/kind")), None).unwrap_err();
        assert_eq!(missing.found, "no file /no/kind, which --kind-bin names");
    }
}
