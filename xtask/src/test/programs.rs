// SPDX-License-Identifier: Apache-2.0
//! Test programs, built by cargo and found by what it says of them.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::ring::WITH_CLUSTERS;
use crate::cargo::cargo;
use crate::root;

/// A test program.
#[derive(Debug)]
pub(super) struct Program {
    /// Name of its target.
    pub(super) name: String,
    pub(super) file: PathBuf,
    /// Folder that cargo would run it in: its package's.
    pub(super) folder: PathBuf,
}

/// Builds the tests of these names, in the order asked for.
pub(super) fn build(tests: &[String]) -> Result<Vec<Program>> {
    let mut command = cargo();
    command.args(["test", "--no-run", "--message-format=json", "--workspace"]);
    if super::rings::clusters().is_none() {
        // As the other rings do.
        command.args(WITH_CLUSTERS);
    }
    command.args(tests.iter().flat_map(|test| ["--test", test]));
    let output = command
        .current_dir(root::workspace())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("failed to run cargo")?;
    if !output.status.success() {
        bail!("failed to build the tests: cargo ended with {}", output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut built: Vec<_> = messages.lines().filter_map(program).collect();
    let mut wanted = Vec::new();
    for test in tests {
        let place = built.iter().position(|program| program.name == *test);
        let place = place.with_context(|| format!("cargo built no test program {test}"))?;
        wanted.push(built.swap_remove(place));
    }
    Ok(wanted)
}

/// One line of cargo's, where it is about a test program (the Cargo book, External tools).
fn program(line: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(line).ok()?;
    let target = &message["target"];
    if message["reason"] != "compiler-artifact" || target["kind"] != serde_json::json!(["test"]) {
        return None;
    }
    let folder = PathBuf::from(message["manifest_path"].as_str()?).parent()?.to_owned();
    Some(Program {
        name: target["name"].as_str()?.to_owned(),
        file: message["executable"].as_str()?.into(),
        folder,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_cargos_messages_only_those_about_test_programs_are_taken() {
        let artifact = |kind: &str, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/harness/Cargo.toml","target":{{"kind":["{kind}"],"name":"lab"}},"executable":{executable}}}"#
            )
        };
        let found = program(&artifact("test", r#""/w/target/debug/deps/lab-1""#)).unwrap();
        assert_eq!((&*found.name, found.folder), ("lab", PathBuf::from("/w/harness")));
        assert_eq!(found.file, PathBuf::from("/w/target/debug/deps/lab-1"));
        assert!(program(&artifact("bin", r#""/w/target/debug/xtask""#)).is_none());
        assert!(program(&artifact("test", "null")).is_none());
        assert!(program(r#"{"reason":"build-finished","success":true}"#).is_none());
        assert!(program("not json").is_none());
    }
}
