// SPDX-License-Identifier: Apache-2.0
//! `bpf`: builds the committed BPF objects again, or shows that they are what their sources say.
//!
//! Building nic2pod needs no clang, because the objects stand beside their sources in git. What
//! keeps the two together is a section in each object with a digest of what it was made from.

mod build;
mod stamp;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
#[cfg(feature = "bpf")]
use harness::bpf::Opened;

use self::build::Compiler;
use self::stamp::Stamp;
use crate::cli::BpfArgs;
use crate::exit::Exit;
use crate::root;

/// What mends a disagreement.
const MEND: &str = "run `cargo xtask bpf` and commit the object";

/// Runs the command.
pub(crate) fn run(args: &BpfArgs) -> Result<Exit> {
    let folder = root::workspace().join("harness/bpf");
    let sources = sources(&folder)?;
    let compiler = Compiler::find();
    if args.check {
        for source in &sources {
            println!("{}", check(source, compiler.as_ref().ok())?);
        }
        if let Err(missing) = compiler {
            println!("not built again to compare: {missing}");
        }
    } else {
        let compiler = compiler?;
        for source in &sources {
            compiler.build(source, &object(source))?;
            println!("built {}", object(source).display());
        }
    }
    Ok(Exit::Ok)
}

/// The programs' sources in a folder, by name.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        folder.read_dir().with_context(|| format!("failed to read {}", folder.display()))?;
    let mut sources = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("failed to read {}", folder.display()))?.path();
        if path.to_string_lossy().ends_with(".bpf.c") {
            sources.push(path);
        }
    }
    sources.sort();
    ensure!(!sources.is_empty(), "failed to find a .bpf.c in {}", folder.display());
    Ok(sources)
}

fn object(source: &Path) -> PathBuf {
    source.with_extension("o")
}

/// Fails where a committed object and its source disagree. Says what was compared.
fn check(source: &Path, compiler: Option<&Compiler>) -> Result<String> {
    let object = object(source);
    let name = object.display();
    let bytes = std::fs::read(&object).with_context(|| format!("failed to read {name}; {MEND}"))?;
    let Some(committed) = Stamp::of(&bytes) else {
        bail!("{name} does not say what it was made from; {MEND}");
    };
    ensure!(
        committed.source == stamp::digest(source)?,
        "{name} was made from another {} or other headers beside it; {MEND}",
        source.display()
    );
    let Some(compiler) = compiler else { return Ok(format!("{name}: made from its source")) };
    let folder = tempfile::tempdir().context("failed to make a folder to build in")?;
    let again = folder.path().join("again.o");
    compiler.build(source, &again)?;
    let again =
        std::fs::read(&again).with_context(|| format!("failed to read {}", again.display()))?;
    if Stamp::of(&again).as_ref() == Some(&committed) {
        ensure!(again == bytes, "{name} is not what its source is compiled to; {MEND}");
        return Ok(format!("{name}: what its source is compiled to, byte by byte"));
    }
    let (committed_names, names) = (names(&bytes)?, names(&again)?);
    ensure!(
        committed_names == names,
        "{name} has {committed_names:?}, its source makes {names:?}; {MEND}"
    );
    Ok(format!(
        "{name}: has the programs and maps of its source; built with {}",
        committed.compiler
    ))
}

/// Programs and maps of an object.
#[cfg(feature = "bpf")]
fn names(object: &[u8]) -> Result<Vec<String>> {
    Ok(Opened::read("a BPF object", object)?.names())
}

#[cfg(not(feature = "bpf"))]
fn names(_: &[u8]) -> Result<Vec<String>> {
    bail!("failed to compare what two compilers made: built without the feature `bpf`")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A copy of the product's sources and objects.
    fn copy() -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().expect("a folder");
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../harness/bpf");
        for entry in from.read_dir().expect("the product's") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name");
            std::fs::copy(&path, folder.path().join(name)).expect("copied");
        }
        let sources = sources(folder.path()).expect("some");
        (folder, sources)
    }

    fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(path).expect("there");
        change(&mut bytes);
        std::fs::write(path, bytes).expect("written");
    }

    #[test]
    fn the_committed_objects_are_what_their_sources_say() {
        let (_folder, sources) = copy();
        assert!(sources.len() >= 2, "{sources:?}");
        let compiler = Compiler::find();
        for source in sources {
            check(&source, compiler.as_ref().ok()).expect("they agree");
        }
    }

    #[test]
    fn a_changed_source_is_named_with_what_mends_it() {
        let (folder, sources) = copy();
        change(&sources[0], |bytes| bytes.extend(b"\n"));
        let message = check(&sources[0], None).expect_err("a byte more").to_string();
        assert!(message.contains(&*sources[0].to_string_lossy()), "{message}");
        assert!(message.contains("cargo xtask bpf"), "{message}");
        check(&sources[1], None).expect("the other is as it was");
        change(&folder.path().join("kernel.h"), |bytes| bytes.extend(b"\n"));
        check(&sources[1], None).expect_err("a header is a source too");
    }

    #[test]
    fn a_changed_object_is_found_where_there_is_a_compiler() {
        let Ok(compiler) = Compiler::find() else { return };
        let (_folder, sources) = copy();
        compiler.build(&sources[0], &object(&sources[0])).expect("built here");
        change(&object(&sources[0]), |bytes| {
            let program = bytes.len() / 4;
            bytes[program] ^= 1;
        });
        let message = check(&sources[0], Some(&compiler)).expect_err("a bit").to_string();
        assert!(message.contains("byte") || message.contains("compiled to"), "{message}");
    }
}
