// SPDX-License-Identifier: Apache-2.0
//! Whether a program can live in an image that holds nothing else.

use object::Endianness;
use object::elf::{EM_AARCH64, EM_RISCV, EM_X86_64, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};

use super::ImageError;

/// The processor a static program is for, as image configurations name it
/// (`GOARCH`, github.com/opencontainers/image-spec, config.md).
pub(super) fn architecture(
    program: &'static str,
    bytes: &[u8],
) -> Result<&'static str, ImageError> {
    checked(program, is_static(bytes))?;
    processor(program, bytes)
}

/// The processor that any program is for.
pub(super) fn processor(program: &'static str, bytes: &[u8]) -> Result<&'static str, ImageError> {
    checked(program, machine(bytes))
}

fn checked<T>(
    program: &'static str,
    read: object::Result<Result<T, String>>,
) -> Result<T, ImageError> {
    read.unwrap_or_else(|error| Err(format!("it is no program: {error}")))
        .map_err(|problem| ImageError::Program { program, problem })
}

fn is_static(bytes: &[u8]) -> object::Result<Result<(), String>> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    for segment in header.program_headers(endian, bytes)? {
        if let Some(loader) = segment.interpreter(endian, bytes)? {
            let loader = String::from_utf8_lossy(loader);
            return Ok(Err(format!("it is not static: it is loaded by {loader}")));
        }
    }
    Ok(Ok(()))
}

fn machine(bytes: &[u8]) -> object::Result<Result<&'static str, String>> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    Ok(match header.e_machine(header.endian()?) {
        EM_X86_64 => Ok("amd64"),
        EM_AARCH64 => Ok("arm64"),
        EM_RISCV => Ok("riscv64"),
        other => Err(format!("it is for ELF machine {other}, which is not known here")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(bytes: &[u8]) -> String {
        architecture("load", bytes).unwrap_err().to_string()
    }

    #[test]
    fn a_program_that_needs_a_loader_is_refused_by_its_loader() {
        // This test's own program is linked dynamically.
        let this = std::fs::read("/proc/self/exe").unwrap();
        assert!(
            problem(&this).contains("it is not static: it is loaded by /lib"),
            "{}",
            problem(&this)
        );
    }

    #[test]
    fn what_is_no_program_is_said_to_be_none() {
        assert!(
            problem(b"#!/bin/sh\n").contains("it is no program"),
            "{}",
            problem(b"#!/bin/sh\n")
        );
        assert!(problem(b"").contains("it is no program"));
    }

    #[test]
    fn a_static_program_is_known_by_its_processor() {
        // The header alone: 64 bit, little endian, x86-64, no segments.
        let mut header = vec![0; 64];
        header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        header[16] = 2;
        header[18] = 62;
        header[20] = 1;
        header[52] = 64;
        header[54] = 56;
        assert_eq!(architecture("load", &header).unwrap(), "amd64");
        header[18] = 2;
        assert!(problem(&header).contains("ELF machine 2"));
    }
}
