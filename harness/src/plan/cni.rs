// SPDX-License-Identifier: Apache-2.0
//! Which CNI, as flags and profiles spell it: a word, or a file for plugins of others.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::CniKind;

/// What stands before a file's path.
const EXEC: &str = "exec:";

/// One value of `--cni` and of `matrix.cni`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CniChoice {
    /// One that is known by its word.
    Known(CniKind),
    /// Plugins of others, by the path of their network configuration list.
    Exec(PathBuf),
}

impl CniChoice {
    /// Which kind it is.
    pub fn kind(&self) -> CniKind {
        match self {
            Self::Known(kind) => *kind,
            Self::Exec(_) => CniKind::Exec,
        }
    }
}

impl From<CniKind> for CniChoice {
    fn from(kind: CniKind) -> Self {
        Self::Known(kind)
    }
}

impl fmt::Display for CniChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(kind) => kind.fmt(f),
            Self::Exec(path) => write!(f, "{EXEC}{}", path.display()),
        }
    }
}

impl FromStr for CniChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix(EXEC) {
            Some("") => Err(format!("`{text}` names no file behind the colon")),
            Some(path) => Ok(Self::Exec(path.into())),
            None if text == CniKind::Exec.word() => {
                Err(format!("`{text}` needs a file: exec:FILE.conflist"))
            }
            None => text
                .parse()
                .map(Self::Known)
                .map_err(|error: String| error.replace("exec", "exec:FILE.conflist")),
        }
    }
}

impl Serialize for CniChoice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CniChoice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_reads_as_it_is_written() {
        for text in ["ptp", "vxlan", "exec:bridge.conflist", "exec:/etc/cni/net.d/10-a:b.conflist"]
        {
            assert_eq!(text.parse::<CniChoice>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_choice_says_what_is() {
        let said = |text: &str| text.parse::<CniChoice>().unwrap_err();
        assert_eq!(said("exec:"), "`exec:` names no file behind the colon");
        assert_eq!(said("exec"), "`exec` needs a file: exec:FILE.conflist");
        assert!(said("weave").starts_with("`weave` is not one of ptp, bridge"));
        assert!(said("weave").contains("exec:FILE.conflist"));
    }
}
