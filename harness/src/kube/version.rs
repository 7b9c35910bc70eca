// SPDX-License-Identifier: Apache-2.0
//! Which Kubernetes a cluster runs: fields of objects came with versions.

use k8s_openapi::apimachinery::pkg::version::Info;

/// Version of an API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerVersion {
    /// Major and minor, to compare.
    pub number: (u32, u32),
    /// In full: `v1.20.2`.
    pub name: String,
}

impl ServerVersion {
    /// From what the server says of itself. Distributions append to the minor number: `18+`.
    pub(super) fn of(info: Info) -> Option<Self> {
        let number = |text: &str| {
            let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            text[..digits].parse().ok()
        };
        Some(Self { number: (number(&info.major)?, number(&info.minor)?), name: info.git_version })
    }

    /// Whether it is this version or a later one.
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        self.number >= (major, minor)
    }
}

impl std::fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: &str, minor: &str) -> Option<ServerVersion> {
        let name = format!("v{major}.{minor}.0");
        let info = Info { git_version: name, ..Info::default() };
        ServerVersion::of(Info { major: major.into(), minor: minor.into(), ..info })
    }

    #[test]
    fn a_distributions_plus_does_not_hide_the_number() {
        assert_eq!(version("1", "18+").unwrap().number, (1, 18));
        assert_eq!(version("1", "x"), None);
    }

    #[test]
    fn the_minor_number_is_compared_as_a_number() {
        let nine = version("1", "9").unwrap();
        assert!(!nine.at_least(1, 22) && nine.at_least(1, 9));
        assert!(version("2", "0").unwrap().at_least(1, 22));
    }
}
