// SPDX-License-Identifier: Apache-2.0
//! The files a trace leaves.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use reports::table::Look;

use super::Traced;
use crate::cli::TraceArgs;

/// Width of lines in a file, where there is no terminal to ask.
const FILE_WIDTH: usize = 120;

/// Writes what was asked for and returns the paths in the order of writing.
///
/// # Errors
/// The disk refuses.
pub(super) fn write(args: &TraceArgs, traced: &[Traced]) -> Result<Vec<PathBuf>> {
    let mut written = Written::default();
    let walks: Vec<_> = traced.iter().map(|one| one.walk.clone()).collect();
    let in_out = |name: &str| args.out.as_ref().map(|dir| dir.join(name));
    if let Some(dir) = &args.out {
        fs::create_dir_all(dir).with_context(|| format!("failed to create {}", dir.display()))?;
    }
    if let Some(path) = in_out("walks.json") {
        written.file(path, super::json(&walks)?.as_bytes())?;
    }
    if let Some(path) = in_out("trace.txt") {
        let look = Look { colour: false, width: Some(FILE_WIDTH) };
        let texts: Vec<_> = walks.iter().map(|walk| reports::trace::text(walk, look)).collect();
        written.file(path, texts.join("\n").as_bytes())?;
    }
    for path in args.perfetto.clone().into_iter().chain(in_out("trace.json")) {
        written.file(path, reports::trace::perfetto(&walks).as_bytes())?;
    }
    for path in args.html.clone().into_iter().chain(in_out("trace.html")) {
        written.file(path, reports::trace::page(&walks)?.as_bytes())?;
    }
    for path in args.pcap.clone().into_iter().chain(in_out("trace.pcapng")) {
        let captured: Vec<_> =
            traced.iter().filter_map(|one| Some((one, one.pcap.as_ref()?))).collect();
        let several = captured.len() > 1;
        for (place, (one, bytes)) in captured.iter().enumerate() {
            let again =
                captured[..place].iter().filter(|(other, _)| other.mode == one.mode).count();
            let path = if several { numbered(&path, &one.mode, again) } else { path.clone() };
            written.file(path, bytes)?;
        }
    }
    Ok(written.0)
}

#[derive(Default)]
struct Written(Vec<PathBuf>);

impl Written {
    fn file(&mut self, path: PathBuf, bytes: &[u8]) -> Result<()> {
        fs::write(&path, bytes).with_context(|| format!("failed to write {}", path.display()))?;
        self.0.push(path);
        Ok(())
    }
}

/// `out.pcapng` of mode iptables is `out-iptables.pcapng`, its second one `out-iptables-2.pcapng`.
fn numbered(path: &Path, mode: &str, again: usize) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{mode}"));
    if again > 0 {
        name.push(format!("-{}", again + 1));
    }
    if let Some(ending) = path.extension() {
        name.push(OsString::from("."));
        name.push(ending);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_of_several_modes_are_told_apart_by_their_names() {
        let name = |path: &str, again| numbered(Path::new(path), "ipvs", again);
        assert_eq!(name("a/b.pcapng", 0), Path::new("a/b-ipvs.pcapng"));
        assert_eq!(name("b", 1), Path::new("b-ipvs-2"));
    }
}
