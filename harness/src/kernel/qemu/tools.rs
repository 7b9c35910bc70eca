// SPDX-License-Identifier: Apache-2.0
//! Programs that a guest takes along from the host, and what they read.

use std::fs;
use std::path::{Path, PathBuf};

use super::elf::Elf;
use super::libraries::Libraries;
use super::tree::Tree;
use crate::Unavailable;
use crate::kernel::KernelError;

/// Programs that modes call. One that the host has not is for the mode's own check to name, in the
/// guest.
const TOOLS: [&str; 15] = [
    "ipset",
    "iptables-legacy",
    "iptables-legacy-restore",
    "iptables-legacy-save",
    "iptables-nft",
    "iptables-nft-restore",
    "iptables-nft-save",
    "ip6tables-legacy",
    "ip6tables-legacy-restore",
    "ip6tables-legacy-save",
    "ip6tables-nft",
    "ip6tables-nft-restore",
    "ip6tables-nft-save",
    "ipvsadm",
    "nft",
];

/// What the kernel calls for modules it lacks (kernel/module/kmod.c, `CONFIG_MODPROBE_PATH`).
const MODPROBE: &str = "/sbin/modprobe";

/// Texts that tools read names of protocols and ports from, and the loader's cache.
const TEXTS: [&str; 3] = ["/etc/ld.so.cache", "/etc/protocols", "/etc/services"];

/// Where iptables may keep its extensions; Debian and Ubuntu have a folder for the architecture.
const EXTENSIONS: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/xtables",
    "/usr/lib64/xtables",
    "/usr/lib/xtables",
    "/usr/local/lib/xtables",
];
/// Beginnings of the extensions' names: those for all families, and IPv4's.
const EXTENSION_PREFIXES: [&str; 2] = ["libxt_", "libipt_"];

/// Adds the tools the host has, what they load and what they read; also `modprobe`, if there are
/// modules.
///
/// # Errors
/// `modprobe` is not installed, or a tool is no program or lacks a library.
pub(super) fn add(
    tree: &mut Tree,
    libraries: &mut Libraries,
    modules: bool,
) -> Result<(), KernelError> {
    if modules {
        if !Path::new(MODPROBE).exists() {
            let need = format!("{MODPROBE}, which loads a guest's modules");
            let missing = Unavailable::new(need, "it is not installed", "apt-get install kmod");
            return Err(missing.into());
        }
        add_program(tree, libraries, Path::new(MODPROBE))?;
    }
    for path in TOOLS.iter().filter_map(|name| find(name)) {
        add_program(tree, libraries, &path)?;
    }
    for path in extensions() {
        tree.host(&path)?;
        libraries.of_plugin(&path)?;
    }
    for text in TEXTS.iter().map(Path::new).filter(|path| path.exists()) {
        tree.host(text)?;
    }
    Ok(())
}

/// Adds programs that the user has named, with what they load. What is not there, or no program, the guest
/// finds as it is and says so.
///
/// # Errors
/// One lacks a library.
pub(super) fn add_others(
    tree: &mut Tree,
    libraries: &mut Libraries,
    programs: &[PathBuf],
) -> Result<(), KernelError> {
    for path in programs.iter().filter(|path| path.is_file()) {
        tree.host(path)?;
        if matches!(Elf::open(path), Ok(Some(_))) {
            libraries.of_program(path)?;
        }
    }
    Ok(())
}

fn add_program(tree: &mut Tree, libraries: &mut Libraries, path: &Path) -> Result<(), KernelError> {
    tree.host(path)?;
    libraries.of_program(path).map(drop)
}

/// Where a program is, on the path that the guest has, too.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&crate::net::process::search_path())
        .map(|folder| folder.join(name))
        .find(|file| file.is_absolute() && file.is_file())
}

fn extensions() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in EXTENSIONS {
        // A folder that is not there has none.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if EXTENSION_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}
