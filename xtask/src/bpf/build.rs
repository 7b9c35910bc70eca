// SPDX-License-Identifier: Apache-2.0
//! From a source to an object: clang, then llvm's tools.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use harness::Unavailable;
use sha2::{Digest, Sha256};

use super::stamp::{self, SECTION, Stamp};
use crate::packages;

/// Given to clang. `asm/types.h` is the machine's own; of the folders, one is there. Where it was
/// compiled must not be in the object: two people would never build the same.
pub(super) const FLAGS: [&str; 11] = [
    "-O2",
    "-g",
    "-Wall",
    "-Werror",
    "-target",
    "bpf",
    "-mcpu=v3",
    "-fdebug-compilation-dir=.",
    "-I/usr/include/x86_64-linux-gnu",
    "-I/usr/include/aarch64-linux-gnu",
    "-I/usr/include/riscv64-linux-gnu",
];

/// Headers of libbpf's that the sources include.
const HEADER: &str = "/usr/include/bpf/bpf_helpers.h";

/// The tools, found.
#[derive(Debug)]
pub(super) struct Compiler {
    clang: PathBuf,
    strip: PathBuf,
    objcopy: PathBuf,
    version: String,
}

impl Compiler {
    /// Looks for the tools.
    ///
    /// # Errors
    /// Which is missing, and the package it comes in.
    pub(super) fn find() -> Result<Self, Unavailable> {
        let find = |name: &str, package: &str| {
            let missing =
                || Unavailable::new(name, "not in PATH", format!("apt-get install {package}"));
            packages::find(name).ok_or_else(missing)
        };
        let clang = find("clang", "clang")?;
        let (strip, objcopy) = (find("llvm-strip", "llvm")?, find("llvm-objcopy", "llvm")?);
        if !Path::new(HEADER).is_file() {
            return Err(Unavailable::new(HEADER, "no such file", "apt-get install libbpf-dev"));
        }
        let version = run(Command::new(&clang).arg("--version"))
            .map_err(|error| Unavailable::new("clang", format!("{error:#}"), "another clang"))?;
        let version = version.lines().next().unwrap_or_default().trim().to_owned();
        Ok(Self { clang, strip, objcopy, version })
    }

    /// Makes `object` from `source`.
    ///
    /// # Errors
    /// What the tools say.
    pub(super) fn build(&self, source: &Path, object: &Path) -> Result<()> {
        let folder = source.parent().context("failed to find the folder of a source")?;
        let name = source.file_name().context("failed to find the name of a source")?;
        let clang = |arguments: &[&OsStr]| {
            run(Command::new(&self.clang).args(FLAGS).args(arguments).arg(name).current_dir(folder))
        };
        let preprocessed = clang(&["-E".as_ref(), "-P".as_ref()])?;
        clang(&["-c".as_ref(), "-o".as_ref(), object.as_os_str()])?;
        run(Command::new(&self.strip).arg("-g").arg(object))?;
        let stamp = Stamp {
            source: stamp::digest(source)?,
            preprocessed: stamp::hex(Sha256::new_with_prefix(preprocessed)),
            compiler: self.version.clone(),
        };
        let scratch = tempfile::tempdir().context("failed to make a folder to build in")?;
        let text = scratch.path().join("stamp");
        std::fs::write(&text, stamp.text())
            .with_context(|| format!("failed to write {}", text.display()))?;
        let section = format!("{SECTION}={}", text.display());
        run(Command::new(&self.objcopy).arg("--add-section").arg(section).arg(object))?;
        let bytes = std::fs::read(object)
            .with_context(|| format!("failed to read {}", object.display()))?;
        let here = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let here = here.to_string_lossy();
        ensure!(
            !bytes.windows(here.len()).any(|part| part == here.as_bytes()),
            "{} names the folder it was compiled in",
            object.display()
        );
        Ok(())
    }
}

fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("failed to run {program}"))?;
    if !output.status.success() {
        bail!(
            "{program}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
