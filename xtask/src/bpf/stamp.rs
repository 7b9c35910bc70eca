// SPDX-License-Identifier: Apache-2.0
//! What an object says of its own making.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::build::FLAGS;

/// Section of the object. libbpf skips sections that it does not know.
pub(super) const SECTION: &str = ".nic2pod.source";

/// Begins each line of the section.
const MARK: &str = "nic2pod.source.";

/// What an object was made from and with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// SHA-256 of the source, the headers beside it, and the compiler's flags.
    pub(super) source: String,
    /// SHA-256 of the source as the compiler saw it, with the system's headers in it.
    pub(super) preprocessed: String,
    /// The compiler's version.
    pub(super) compiler: String,
}

impl Stamp {
    /// The section's text.
    pub(super) fn text(&self) -> String {
        let Self { source, preprocessed, compiler } = self;
        format!(
            "{MARK}sha256={source}\n{MARK}preprocessed={preprocessed}\n{MARK}compiler={compiler}\n"
        )
    }

    /// Out of an object; none if it has no such section.
    pub(super) fn of(object: &[u8]) -> Option<Self> {
        let value = |key: &str| {
            let mark = format!("{MARK}{key}=");
            let start = object.windows(mark.len()).position(|bytes| bytes == mark.as_bytes())?;
            let rest = &object[start + mark.len()..];
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            Some(String::from_utf8_lossy(&rest[..end]).into_owned())
        };
        let (source, preprocessed) = (value("sha256")?, value("preprocessed")?);
        Some(Self { source, preprocessed, compiler: value("compiler")? })
    }
}

/// Digest of a source, the headers beside it, and the flags. Files are told apart by their names.
pub(super) fn digest(source: &Path) -> Result<String> {
    let mut files = vec![source.to_owned()];
    files.extend(headers(source)?);
    let mut digest = Sha256::new();
    for file in files {
        let bytes = std::fs::read(&file);
        let bytes = bytes.with_context(|| format!("failed to read {}", file.display()))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        digest.update(format!("{name} {}\n", bytes.len()));
        digest.update(bytes);
    }
    digest.update(FLAGS.join(" "));
    Ok(hex(digest))
}

/// A digest in hexadecimal.
pub(super) fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn headers(source: &Path) -> Result<Vec<PathBuf>> {
    let folder = source.parent().context("failed to find the folder of a source")?;
    let entries =
        folder.read_dir().with_context(|| format!("failed to read {}", folder.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut headers: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "h")).collect();
    headers.sort();
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let stamp = Stamp {
            source: "ab".to_owned(),
            preprocessed: "cd".to_owned(),
            compiler: "clang version 14.0.6".to_owned(),
        };
        let object = [b"\x7fELF....", stamp.text().as_bytes(), b"\0more\n"].concat();
        assert_eq!(Stamp::of(&object), Some(stamp));
        assert_eq!(Stamp::of(b"\x7fELF nic2pod.source.sha256=ab\n"), None);
    }
}
