// SPDX-License-Identifier: Apache-2.0
//! What building a kernel needs on the machine.

use std::path::{Path, PathBuf};

use crate::Unavailable;

/// A program or a file, and the Debian package it comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// A program of PATH, or a file's whole path.
    pub name: &'static str,
    /// Package of Debian and Ubuntu.
    pub package: &'static str,
    /// Whether it is only for taking the distribution's source.
    pub fetching: bool,
}

const fn tool(name: &'static str, package: &'static str, fetching: bool) -> Tool {
    Tool { name, package, fetching }
}

/// All of them.
pub const TOOLS: [Tool; 12] = [
    tool("make", "make", false),
    tool("gcc", "gcc", false),
    tool("ld", "binutils", false),
    tool("bison", "bison", false),
    tool("flex", "flex", false),
    tool("bc", "bc", false),
    tool("pahole", "dwarves", false),
    tool("/usr/include/gelf.h", "libelf-dev", false),
    tool("/usr/include/stdio.h", "libc6-dev", false),
    tool("xz", "xz-utils", true),
    tool("apt-get", "apt", true),
    tool("dpkg-deb", "dpkg", true),
];

/// Whether all is there.
pub(super) fn check(fetching: bool) -> Result<(), Unavailable> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    check_in(fetching, &folders, std::env::consts::ARCH)
}

/// [`check`] with the folders of PATH and the processor's architecture given.
pub(super) fn check_in(
    fetching: bool,
    folders: &[PathBuf],
    architecture: &str,
) -> Result<(), Unavailable> {
    if architecture != "x86_64" {
        return Err(Unavailable::new(
            "an x86-64 machine: User-Mode Linux runs on no other with two processors",
            architecture,
            "--kernel qemu",
        ));
    }
    let there = |name: &str| {
        let file = Path::new(name);
        if file.is_absolute() {
            file.is_file()
        } else {
            folders.iter().any(|folder| folder.join(name).is_file())
        }
    };
    let missing: Vec<_> = TOOLS
        .iter()
        .filter(|tool| fetching || !tool.fetching)
        .filter(|tool| !there(tool.name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = |what: fn(&Tool) -> &str| missing.iter().map(|tool| what(tool)).collect::<Vec<_>>();
    Err(Unavailable::new(
        format!("{} to build a kernel", list(|tool| tool.name).join(", ")),
        "none of them on this machine",
        format!("apt-get install {}   (or --yes as root)", list(|tool| tool.package).join(" ")),
    ))
}
