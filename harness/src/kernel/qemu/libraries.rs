// SPDX-License-Identifier: Apache-2.0
//! Libraries that programs are loaded with: their own loader is asked, so that what it would find in
//! its cache, in RUNPATH and in its folders is what is taken.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::elf::Elf;
use super::listen::listen;
use crate::kernel::KernelError;

/// How long a loader may take to list a program's libraries.
const LISTING_MAX: Duration = Duration::from_secs(30);

/// Files that programs need to be loaded, found so far.
#[derive(Debug, Default)]
pub(crate) struct Libraries {
    files: BTreeSet<PathBuf>,
    /// A loader of one of the programs, for files that are libraries themselves.
    loader: Option<PathBuf>,
}

impl Libraries {
    /// Adds the libraries of a program and its loader.
    ///
    /// # Errors
    /// It is no program, or a library it names is missing.
    pub(crate) fn of_program(&mut self, path: &Path) -> Result<Elf, KernelError> {
        let elf = open(path)?;
        if let Some(loader) = &elf.interpreter {
            self.list(loader, path)?;
            self.files.insert(loader.clone());
            self.loader.get_or_insert_with(|| loader.clone());
        }
        Ok(elf)
    }

    /// Adds the libraries of something that a program loads while it runs. It is asked about only
    /// where it names one that is not there already: there are a hundred of them.
    ///
    /// # Errors
    /// As for a program.
    pub(super) fn of_plugin(&mut self, path: &Path) -> Result<(), KernelError> {
        let elf = open(path)?;
        let have = |name: &String| self.files.iter().any(|file| file.ends_with(name));
        match self.loader.clone() {
            Some(loader) if !elf.needed.iter().all(have) => self.list(&loader, path),
            _ => Ok(()),
        }
    }

    /// All files found, by path.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }

    fn list(&mut self, loader: &Path, path: &Path) -> Result<(), KernelError> {
        let mut command = Command::new(loader);
        // The harness's own surroundings are not the guest's.
        command.arg("--list").arg(path).env_remove("LD_PRELOAD").env_remove("LD_LIBRARY_PATH");
        let heard = listen(command, LISTING_MAX, |_| false).map_err(|source| {
            KernelError::File { op: "run the loader", path: loader.to_owned(), source }
        })?;
        let malformed = |found: String| KernelError::Malformed { path: path.to_owned(), found };
        if !heard.status.success() {
            return Err(malformed(format!("its loader says: {}", heard.text.trim())));
        }
        self.files.extend(parse(&heard.text).map_err(malformed)?);
        Ok(())
    }
}

fn open(path: &Path) -> Result<Elf, KernelError> {
    let read = Elf::open(path).map_err(|source| KernelError::File {
        op: "read",
        path: path.to_owned(),
        source,
    })?;
    let found = "it is no 64-bit ELF program".to_owned();
    read.ok_or_else(|| KernelError::Malformed { path: path.to_owned(), found })
}

/// Paths of `ld.so --list`'s answer, one library a line: `name => path (address)`, a path alone
/// where the name is one, and the kernel's own, which is no file.
fn parse(listing: &str) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for line in listing.lines() {
        let line = line.trim();
        if line.ends_with("not found") {
            return Err(format!("a library is missing: {line}"));
        }
        let Some((left, _address)) = line.rsplit_once(" (0x") else { continue };
        let path = left.split_once(" => ").map_or(left, |(_, path)| path);
        if path.starts_with('/') {
            files.push(path.into());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_without_the_library_that_is_no_file() {
        let listing = "\tlinux-vdso.so.1 (0x00007f3c40d65000)\n\
            \tlibipset.so.13 => /lib/x86_64-linux-gnu/libipset.so.13 (0x00007f3c40d17000)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f3c40d67000)\n";
        let files = parse(listing).unwrap();
        assert_eq!(
            files,
            [
                Path::new("/lib/x86_64-linux-gnu/libipset.so.13"),
                Path::new("/lib64/ld-linux-x86-64.so.2")
            ]
        );
        let missing = parse("\tlibfoo.so.1 => not found\n").unwrap_err();
        assert!(missing.contains("libfoo.so.1"), "{missing}");
    }

    #[test]
    fn a_program_comes_with_its_loader_and_its_libraries() {
        let mut libraries = Libraries::default();
        let elf = libraries.of_program(&std::env::current_exe().unwrap()).unwrap();
        let files: Vec<_> = libraries.files().collect();
        assert!(files.contains(&elf.interpreter.as_deref().unwrap()), "{files:?}");
        for name in &elf.needed {
            assert!(files.iter().any(|file| file.ends_with(name)), "{name} in {files:?}");
        }
        assert!(files.iter().all(|file| file.is_file()), "{files:?}");
    }
}
