// SPDX-License-Identifier: Apache-2.0
//! A program that is loaded with libraries, as the files that an image needs of it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::{ImageError, program};
use crate::kernel::qemu::{Libraries, forget_sections};

/// Where the program is in the image.
const PLACE: &str = "probe";

/// Paths in the image and bytes: the program, cut to what is ever mapped of it, its loader and its
/// libraries, where it looks for them.
///
/// # Errors
/// It cannot be read, is no program for that processor, or a library is missing.
pub(super) fn files(path: &Path, architecture: &str) -> Result<Vec<(String, Vec<u8>)>, ImageError> {
    let refuse = |problem: String| ImageError::Program { program: PLACE, problem };
    let mut libraries = Libraries::default();
    let elf = libraries.of_program(path).map_err(|error| refuse(error.to_string()))?;
    let mut bytes = read(path, elf.mapped_bytes)?;
    let found = program::processor(PLACE, &bytes)?;
    if found != architecture {
        return Err(refuse(format!("it is for {found}, and load for {architecture}")));
    }
    forget_sections(&mut bytes);
    let mut files = vec![(PLACE.to_owned(), bytes)];
    for library in libraries.files() {
        let place = library.strip_prefix("/").unwrap_or(library);
        files.push((place.display().to_string(), read(library, u64::MAX)?));
    }
    Ok(files)
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, ImageError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|source| ImageError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This test's own program, which is loaded with libraries.
    const THIS: &str = "/proc/self/exe";

    #[test]
    fn a_program_comes_with_what_loads_it_and_without_what_is_never_mapped() {
        let whole = std::fs::read(THIS).unwrap();
        let architecture = program::processor(PLACE, &whole).unwrap();
        let this = std::env::current_exe().unwrap();
        let files = files(&this, architecture).unwrap();
        assert_eq!(files[0].0, "probe");
        assert!(files[0].1.len() < whole.len());
        assert!(files.iter().any(|(path, _)| path.contains("libc.so")), "a C library");
        assert!(files[1..].iter().all(|(path, bytes)| !path.starts_with('/') && !bytes.is_empty()));
    }

    #[test]
    fn a_program_for_another_processor_is_refused() {
        let this = std::env::current_exe().unwrap();
        let error = files(&this, "vax").unwrap_err().to_string();
        assert!(error.starts_with("failed to put probe into an image: it is for "), "{error}");
    }
}
