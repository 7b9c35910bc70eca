// SPDX-License-Identifier: Apache-2.0
//! What a program asks of its loader, and how much of its file is ever loaded.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use object::elf::{DT_NEEDED, EM_X86_64, FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, ReadCache, ReadRef};

/// A 64-bit ELF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Elf {
    /// Its loader; a static program and most libraries have none.
    pub(super) interpreter: Option<PathBuf>,
    /// Libraries it names.
    pub(super) needed: Vec<String>,
    /// Whether it is for the processors that guests have.
    pub(super) x86_64: bool,
    /// Bytes from its start up to which it is mapped when it runs. What lies behind them, debugging
    /// information and symbols, is for other programs.
    pub(crate) mapped_bytes: u64,
}

impl Elf {
    /// Reads a file's headers, not the file.
    ///
    /// # Errors
    /// It cannot be read. `Ok(None)`: it is no 64-bit ELF file, or a broken one.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let cache = ReadCache::new(File::open(path)?);
        Ok(Self::read(&cache).ok())
    }

    fn read<'data>(data: impl ReadRef<'data>) -> object::Result<Self> {
        let header = FileHeader64::<Endianness>::parse(data)?;
        let endian = header.endian()?;
        let mut interpreter = None;
        let mut mapped_bytes = 0;
        for segment in header.program_headers(endian, data)? {
            if let Some(path) = segment.interpreter(endian, data)? {
                interpreter = Some(std::ffi::OsString::from_vec(path.to_vec()).into());
            }
            if segment.p_type(endian) == PT_LOAD {
                let (offset, length) = segment.file_range(endian);
                mapped_bytes = mapped_bytes.max(offset.saturating_add(length));
            }
        }
        let dynamic = header.sections(endian, data)?.dynamic_table(endian, data)?;
        let needed = dynamic
            .iter()
            .filter(|entry| entry.tag == DT_NEEDED)
            .map(|entry| Ok(String::from_utf8_lossy(dynamic.string(entry)?).into_owned()))
            .collect::<object::Result<_>>()?;
        let x86_64 = header.e_machine(endian) == EM_X86_64;
        Ok(Self { interpreter, needed, x86_64, mapped_bytes })
    }
}

/// Where a 64-bit ELF header counts sections: `e_shoff`, `e_shnum` and `e_shstrndx` (elf(5)).
const SECTION_FIELDS: [std::ops::Range<usize>; 2] = [0x28..0x30, 0x3c..0x40];

/// Takes the count of sections out of the start of a program's file of which nothing behind
/// [`Elf::mapped_bytes`] is kept: the table of sections lies there.
pub(crate) fn forget_sections(start: &mut [u8]) {
    for field in SECTION_FIELDS {
        if let Some(bytes) = start.get_mut(field) {
            bytes.fill(0);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Makes a program. Another process writes it: one that a thread of this one starts meanwhile
    /// would hold it open for writing, and it could not be run (`ETXTBSY`).
    pub(in super::super) fn executable(folder: &Path, bytes: &[u8]) -> PathBuf {
        let (written, program) = (folder.join("written"), folder.join("program"));
        std::fs::write(&written, bytes).unwrap();
        let mut install = std::process::Command::new("install");
        install.args(["-m", "755"]).args([&written, &program]);
        assert!(install.status().unwrap().success());
        program
    }

    #[test]
    fn a_program_names_its_loader_and_its_libraries() {
        let elf = Elf::open(&std::env::current_exe().unwrap()).unwrap().unwrap();
        assert!(elf.interpreter.unwrap().is_file());
        assert!(elf.needed.iter().any(|name| name.starts_with("libc.so")), "{:?}", elf.needed);
        assert_eq!(elf.x86_64, cfg!(target_arch = "x86_64"));
    }

    #[test]
    fn a_program_runs_without_what_lies_behind_its_mapped_bytes() {
        let path = std::env::current_exe().unwrap();
        let elf = Elf::open(&path).unwrap().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let whole = bytes.len();
        bytes.truncate(usize::try_from(elf.mapped_bytes).unwrap());
        assert!(bytes.len() < whole);
        forget_sections(&mut bytes);
        let dir = tempfile::tempdir().unwrap();
        let short = executable(dir.path(), &bytes);
        let output = std::process::Command::new(&short).arg("--list").output().unwrap();
        let list = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && list.contains("mapped_bytes: test"), "{output:?}");
    }

    #[test]
    fn a_file_that_is_no_program_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("script");
        for text in ["#!/bin/sh\n", "", "\x7fELF\x02\x01\x01"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Elf::open(&path).unwrap(), None, "{text:?}");
        }
    }
}
