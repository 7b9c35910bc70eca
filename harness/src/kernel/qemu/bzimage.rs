// SPDX-License-Identifier: Apache-2.0
//! What a kernel's boot image says of itself (Documentation/arch/x86/boot.rst).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Most that is read of an image, bytes: the boot sector and the 255 sectors of setup code that its
/// byte `setup_sects` can count, among which the version's text is.
pub const HEADER_BYTES_MAX: usize = 256 * SECTOR;
/// `setup_sects` and all offsets below are in these, bytes.
const SECTOR: usize = 512;
/// Longest version text taken, bytes; `uname -rv` has room for 2 times 64.
const VERSION_BYTES_MAX: usize = 512;

const SETUP_SECTS: usize = 0x1f1;
const BOOT_FLAG: usize = 0x1fe;
const MAGIC: usize = 0x202;
const PROTOCOL: usize = 0x206;
const KERNEL_VERSION: usize = 0x20e;
const LOADFLAGS: usize = 0x211;
const XLOADFLAGS: usize = 0x236;

/// `LOADED_HIGH` of `loadflags`: what sets a bzImage apart from a zImage.
const LOADED_HIGH: u8 = 1;
/// `XLF_KERNEL_64` of `xloadflags`: a 64-bit kernel.
const KERNEL_64: u8 = 1;
/// The protocol's version that has `xloadflags`.
const PROTOCOL_WITH_XLOADFLAGS: u16 = 0x020c;

/// A boot image's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BzImage {
    /// `uname -r`, the name of its modules' folder: `6.1.0-40-cloud-amd64`. Never a path.
    pub release: String,
    /// All it says: the release, who built it, `uname -v`.
    pub version: String,
}

/// Why a file is no boot image of a 64-bit x86 kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotBzImage {
    /// It ends before its header does.
    #[error("it is shorter than a boot image's header")]
    Short,
    /// Some other file.
    #[error("it has no `HdrS` at 0x202, where an x86 boot image has it")]
    NoMagic,
    /// Kernels before 2.5 and very small ones.
    #[error("it is a zImage")]
    ZImage,
    /// It was built for processors the lab's programs do not run on.
    #[error("it is a kernel for 32-bit processors")]
    Bits32,
    /// The header points nowhere, or at what is no release.
    #[error("its header does not say its release")]
    NoRelease,
}

impl BzImage {
    /// Reads the start of a file.
    ///
    /// # Errors
    /// It cannot be read, or (within) it is no boot image.
    pub fn open(path: &Path) -> io::Result<Result<Self, NotBzImage>> {
        let mut header = Vec::with_capacity(HEADER_BYTES_MAX);
        File::open(path)?.take(HEADER_BYTES_MAX as u64).read_to_end(&mut header)?;
        Ok(Self::read(&header))
    }

    /// Reads an image of which at least the first [`HEADER_BYTES_MAX`] bytes are given, or all.
    ///
    /// # Errors
    /// It is no boot image of a 64-bit kernel.
    pub fn read(image: &[u8]) -> Result<Self, NotBzImage> {
        if image.len() < XLOADFLAGS + 2 {
            return Err(NotBzImage::Short);
        }
        let word = |at: usize| u16::from_le_bytes([image[at], image[at + 1]]);
        if word(BOOT_FLAG) != 0xaa55 || &image[MAGIC..MAGIC + 4] != b"HdrS" {
            return Err(NotBzImage::NoMagic);
        }
        if image[LOADFLAGS] & LOADED_HIGH == 0 {
            return Err(NotBzImage::ZImage);
        }
        if word(PROTOCOL) < PROTOCOL_WITH_XLOADFLAGS || image[XLOADFLAGS] & KERNEL_64 == 0 {
            return Err(NotBzImage::Bits32);
        }
        // A count of 0 means 4, for the sake of kernels older than this header.
        let sectors = match image[SETUP_SECTS] {
            0 => 4,
            count => usize::from(count),
        };
        let at = usize::from(word(KERNEL_VERSION));
        if at == 0 || at >= sectors * SECTOR {
            return Err(NotBzImage::NoRelease);
        }
        let text = image.get(at + SECTOR..).ok_or(NotBzImage::Short)?;
        let text = &text[..text.len().min(VERSION_BYTES_MAX)];
        let end = text.iter().position(|&byte| byte == 0).ok_or(NotBzImage::NoRelease)?;
        let version = String::from_utf8_lossy(&text[..end]).into_owned();
        let release = version.split_whitespace().next().unwrap_or_default();
        if !is_release(release) {
            return Err(NotBzImage::NoRelease);
        }
        Ok(Self { release: release.to_owned(), version })
    }
}

/// Whether a text can be a release. It becomes part of paths: the Makefile's characters, no others.
fn is_release(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+-_~".contains(&byte))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const VERSION: &str = "6.1.0-40-cloud-amd64 (debian-kernel@lists.debian.org) #1 SMP Debian";

    /// A header as the kernel's build writes it, with its version's text in the second sector.
    pub(in super::super) fn image(version: &str) -> Vec<u8> {
        let mut image = vec![0; 8 * SECTOR];
        image[SETUP_SECTS] = 7;
        image[BOOT_FLAG..BOOT_FLAG + 2].copy_from_slice(&[0x55, 0xaa]);
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[PROTOCOL..PROTOCOL + 2].copy_from_slice(&0x020f_u16.to_le_bytes());
        image[KERNEL_VERSION..KERNEL_VERSION + 2].copy_from_slice(&0x300_u16.to_le_bytes());
        image[LOADFLAGS] = LOADED_HIGH;
        image[XLOADFLAGS] = KERNEL_64;
        image[0x500..0x500 + version.len()].copy_from_slice(version.as_bytes());
        image
    }

    #[test]
    fn an_image_says_its_release_and_who_built_it() {
        let read = BzImage::read(&image(VERSION)).unwrap();
        assert_eq!(read.release, "6.1.0-40-cloud-amd64");
        assert_eq!(read.version, VERSION);
    }

    #[test]
    fn what_is_no_image_is_named_for_what_it_is() {
        let with = |at: usize, byte: u8| {
            let mut image = image(VERSION);
            image[at] = byte;
            BzImage::read(&image).unwrap_err()
        };
        assert_eq!(BzImage::read(b"\x7fELF").unwrap_err(), NotBzImage::Short);
        assert_eq!(BzImage::read(&[0; 4096]).unwrap_err(), NotBzImage::NoMagic);
        assert_eq!(with(MAGIC, b'h'), NotBzImage::NoMagic);
        assert_eq!(with(LOADFLAGS, 0), NotBzImage::ZImage);
        assert_eq!(with(XLOADFLAGS, 0), NotBzImage::Bits32);
        assert_eq!(with(KERNEL_VERSION + 1, 0x7f), NotBzImage::NoRelease);
        assert_eq!(BzImage::read(&image(VERSION)[..0x400]).unwrap_err(), NotBzImage::Short);
    }

    #[test]
    fn a_release_that_would_lead_out_of_the_modules_folder_is_none() {
        for text in ["../../etc", "6.1/..", "", " 6.1", "6.1\u{e9}", "x"] {
            let read = BzImage::read(&image(text)).map(|read| read.release);
            let harmless = read.as_deref().is_ok_and(|release| release == "6.1");
            assert!(read == Err(NotBzImage::NoRelease) || harmless, "{text:?}: {read:?}");
        }
    }
}
