// SPDX-License-Identifier: Apache-2.0
//! Which kernel a netns lab is to run on, as flags and profiles spell it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What cases on the machine's own kernel are labelled with.
pub const HOST_KERNEL: &str = "host";

/// One value of `--kernel` and of `matrix.kernel`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelChoice {
    /// The host's, or where a mode lacks something there, one that has it.
    Auto,
    /// The machine's own.
    Host,
    /// User-Mode Linux: a name of `lab kernel ls`, a path, or the one in use.
    Uml(Option<String>),
    /// A kernel in QEMU: a path, or the newest in /boot.
    Qemu(Option<String>),
}

impl fmt::Display for KernelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Host => f.write_str(HOST_KERNEL),
            Self::Uml(None) => f.write_str("uml"),
            Self::Uml(Some(which)) => write!(f, "uml:{which}"),
            Self::Qemu(None) => f.write_str("qemu"),
            Self::Qemu(Some(which)) => write!(f, "qemu:{which}"),
        }
    }
}

impl FromStr for KernelChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, which) = match text.split_once(':') {
            None => (text, None),
            Some((_, "")) => return Err(format!("`{text}` names no kernel behind the colon")),
            Some((kind, which)) => (kind, Some(which.to_owned())),
        };
        match (kind, which) {
            ("auto", None) => Ok(Self::Auto),
            (HOST_KERNEL, None) => Ok(Self::Host),
            ("uml", which) => Ok(Self::Uml(which)),
            ("qemu", which) => Ok(Self::Qemu(which)),
            _ => Err(format!(
                "`{text}` is not one of auto, host, uml, qemu, uml:NAME|PATH, qemu:PATH"
            )),
        }
    }
}

impl Serialize for KernelChoice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KernelChoice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_reads_as_it_is_written() {
        for text in ["auto", "host", "uml", "uml:/boot/linux", "uml:7.2.13-ab12", "qemu:/x:y"] {
            assert_eq!(text.parse::<KernelChoice>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_choice_is_named() {
        for text in ["", "xen", "host:6.1", "auto:x", "uml:", "UML"] {
            let message = text.parse::<KernelChoice>().unwrap_err();
            assert!(message.starts_with(&format!("`{text}` ")), "{message}");
        }
    }
}
