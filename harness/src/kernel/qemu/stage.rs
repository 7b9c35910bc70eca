// SPDX-License-Identifier: Apache-2.0
//! A guest's modules: the few it may ask for, unpacked, with an index of their own.
//!
//! Unpacking is done here because an emulated processor would take seconds for what the host does
//! in a tenth of one; and depmod(8) makes the index of what is there, because modprobe(8) reads its
//! binary form and would otherwise look for packed files. A small index is read faster, too.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::files::KernelFiles;
use super::listen::listen;
use super::wanted::{FIRST, TAKEN, stands_for};
use crate::Unavailable;
use crate::kernel::KernelError;

/// In a guest, the modules that process 1 loads first: absolute paths, one a line, in order.
pub(super) const FIRST_LIST: &str = "/etc/modules-first";

/// How long unpacking or indexing may take.
const TOOL_MAX: Duration = Duration::from_secs(60);

/// Endings of packed modules, the program that unpacks them in place, its arguments, and the
/// package it is in.
const PACKED: [(&str, &str, &[&str], &str); 3] = [
    ("xz", "xz", &["-d", "-q", "--"], "xz-utils"),
    ("zst", "zstd", &["-d", "-q", "--rm", "--"], "zstd"),
    ("gz", "gzip", &["-d", "-q", "--"], "gzip"),
];

/// Files of a release that depmod(8) reads beside the modules.
const READ_BY_DEPMOD: [&str; 3] = ["modules.builtin", "modules.builtin.modinfo", "modules.order"];

/// Modules laid out as they are in the guest.
#[derive(Debug)]
pub(super) struct Stage {
    /// All files, below the folder that was staged into: `lib/modules/RELEASE/...`.
    pub(super) files: Vec<PathBuf>,
    /// Those that process 1 loads first, in order, as the guest names them.
    pub(super) first: Vec<String>,
}

/// Lays out the modules of a kernel in a folder.
///
/// # Errors
/// A program that unpacks or indexes them is missing or fails, or a file cannot be copied.
pub(super) fn stage(kernel: &KernelFiles, into: &Path) -> Result<Stage, KernelError> {
    let Some(source) = &kernel.modules_folder else {
        return Ok(Stage { files: Vec::new(), first: Vec::new() });
    };
    let release = Path::new("lib/modules").join(&kernel.image.release);
    let taken = kernel.modules.names().filter(|name| TAKEN.iter().any(|p| stands_for(p, name)));
    let packed = kernel.modules.closure(taken);
    let copy = |relative: &str| {
        let target = into.join(&release).join(relative);
        let file = |op, path: &Path, source| KernelError::File { op, path: path.into(), source };
        let folder = target.parent().expect("it is below the folder it was joined to");
        fs::create_dir_all(folder).map_err(|error| file("make", folder, error))?;
        let from = source.join(relative);
        fs::copy(&from, &target).map_err(|error| file("copy", &from, error))?;
        Ok::<_, KernelError>(target)
    };
    let files = packed.iter().map(|path| copy(path)).collect::<Result<Vec<_>, _>>()?;
    for name in READ_BY_DEPMOD {
        if source.join(name).exists() {
            copy(name)?;
        }
    }
    for (ending, program, arguments, package) in PACKED {
        let mut these = files.iter().filter(|file| file.extension().is_some_and(|e| e == ending));
        if these.clone().next().is_some() {
            let mut command = Command::new(program);
            command.args(arguments).args(&mut these);
            run(command, &format!("unpacks modules ({program})"), package)?;
        }
    }
    let mut depmod = Command::new("depmod");
    depmod.arg("-b").arg(into).arg(&kernel.image.release);
    run(depmod, "indexes modules (depmod)", "kmod")?;

    let unpacked = |path: &str| {
        PACKED.iter().fold(path.to_owned(), |path, (ending, ..)| {
            path.strip_suffix(&format!(".{ending}")).map_or(path.clone(), str::to_owned)
        })
    };
    let mut staged: Vec<_> = packed.iter().map(|path| release.join(unpacked(path))).collect();
    staged.extend(indexes(into, &release).map_err(|source| KernelError::File {
        op: "list",
        path: into.join(&release),
        source,
    })?);
    let first = kernel.modules.closure(FIRST);
    let first = first.iter().map(|path| format!("/{}/{}", release.display(), unpacked(path)));
    Ok(Stage { first: first.collect(), files: staged })
}

/// What depmod(8) wrote and read: the files that lie in the release's folder itself.
fn indexes(into: &Path, release: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(into.join(release))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            found.push(release.join(entry.file_name()));
        }
    }
    found.sort();
    Ok(found)
}

fn run(mut command: Command, what: &str, package: &str) -> Result<(), KernelError> {
    command.env("PATH", crate::net::process::search_path()).env("LC_ALL", "C");
    let program = command.get_program().to_owned();
    let heard = listen(command, TOOL_MAX, |_| false).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => KernelError::Unavailable(Unavailable::new(
            format!("a program that {what}"),
            "it is not installed",
            format!("apt-get install {package}"),
        )),
        _ => KernelError::File { op: "run", path: program.clone().into(), source },
    })?;
    if heard.status.success() {
        return Ok(());
    }
    let found = if heard.late { "it took too long" } else { heard.text.trim() };
    Err(KernelError::Malformed { path: program.into(), found: found.to_owned() })
}

#[cfg(test)]
mod tests;
