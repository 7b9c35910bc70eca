// SPDX-License-Identifier: Apache-2.0
//! cargo, called by a program that cargo has started.

use std::ffi::OsStr;
use std::process::Command;

/// What cargo tells the programs that it starts of their package
/// (doc.rust-lang.org/cargo/reference/environment-variables.html).
const OF_A_PACKAGE: [&str; 2] = ["CARGO_MANIFEST_", "CARGO_PKG_"];

/// The cargo that started this program, or that of the PATH.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget_package(&mut command);
    command
}

/// Has a command know nothing of this program's package. Build scripts that ask for such variables (ring's) are run
/// again where they have changed, and what depends on them is built again: most of everything, each time that a
/// shell's cargo and ours take turns.
pub(crate) fn forget_package(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_a_package(name)) {
        command.env_remove(name);
    }
}

fn is_of_a_package(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| OF_A_PACKAGE.iter().any(|of| name.starts_with(of)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_package_is_told_from_what_is_the_users() {
        for name in ["CARGO_PKG_NAME", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_LINKS"] {
            assert!(is_of_a_package(name.as_ref()), "{name}");
        }
        for name in ["CARGO", "CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_PROFILE_DEV_DEBUG"] {
            assert!(!is_of_a_package(name.as_ref()), "{name}");
        }
    }
}
