// SPDX-License-Identifier: Apache-2.0
//! Where the Engine listens.

use std::path::PathBuf;

use crate::Unavailable;

/// Where it listens unless `DOCKER_HOST` says otherwise.
const DEFAULT: &str = "/var/run/docker.sock";

/// The Engine's socket, by the environment.
pub(super) fn path() -> Result<PathBuf, Unavailable> {
    of(std::env::var("DOCKER_HOST").ok().as_deref())
}

/// Only a Unix socket will do: the lab has left the host's network, and needs the processes of the
/// Engine's containers on this very machine.
fn of(docker_host: Option<&str>) -> Result<PathBuf, Unavailable> {
    match docker_host.map(|host| (host, host.strip_prefix("unix://"))) {
        None | Some(("", _)) => Ok(DEFAULT.into()),
        Some((_, Some(path))) => Ok(path.into()),
        Some((host, None)) => Err(Unavailable::new(
            "Docker at a Unix socket of this machine",
            format!("DOCKER_HOST={host}"),
            "unset DOCKER_HOST, or set it to unix:///path/of/docker.sock",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_the_socket() {
        assert_eq!(of(None), Ok(DEFAULT.into()));
        assert_eq!(of(Some("")), Ok(DEFAULT.into()));
        assert_eq!(
            of(Some("unix:///run/user/1/docker.sock")),
            Ok("/run/user/1/docker.sock".into())
        );
    }

    #[test]
    fn an_engine_elsewhere_is_refused_by_name() {
        let refused = of(Some("tcp://10.0.0.1:2375")).unwrap_err();
        assert_eq!(refused.found, "DOCKER_HOST=tcp://10.0.0.1:2375");
    }
}
