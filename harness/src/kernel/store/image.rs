// SPDX-License-Identifier: Apache-2.0
//! What a User-Mode Linux kernel says of itself: it is a program, so it is asked.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::super::config;
use super::{StoreError, StoredKernel};

/// How long a kernel may take to say what it is; it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most that is read of an answer, bytes; a configuration is 60 KiB.
const BYTES_MAX: u64 = 1 << 20;

/// Asks the file at `path` for its version and its configuration (`--version`, `--showconfig`:
/// arch/um/kernel/um_arch.c, arch/um/kernel/config.c.in).
pub(in super::super) fn ask(path: &Path) -> Result<StoredKernel, StoreError> {
    let path = path.canonicalize().map_err(|source| StoreError::File {
        op: "find",
        path: path.to_owned(),
        source,
    })?;
    let malformed =
        |found: &str| StoreError::Malformed { path: path.clone(), found: found.to_owned() };
    let config = config::normalised(&answer(&path, "--showconfig")?);
    if !config.lines().any(|line| line == "CONFIG_UML=y") {
        return Err(malformed("it is no User-Mode Linux kernel: --showconfig does not say so"));
    }
    let version = answer(&path, "--version")?.trim().to_owned();
    if version.is_empty() || version.contains(char::is_whitespace) {
        return Err(malformed("it is no User-Mode Linux kernel: --version is no release"));
    }
    let name = path.display().to_string();
    Ok(StoredKernel { name, version, config_sha256: config::digest(&config), path })
}

fn answer(path: &Path, question: &str) -> Result<String, StoreError> {
    let failed = |source| StoreError::File { op: "run", path: path.to_owned(), source };
    let mut child = Command::new(path)
        .arg(question)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let stdout = child.stdout.take().expect("piped");
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let read = stdout.take(BYTES_MAX).read_to_end(&mut text);
        // Nobody listens any more when the answer came too late.
        let _ = sender.send(read.map(|_| text));
    });
    let answered = receiver.recv_timeout(PATIENCE);
    // It has answered or will not: either way it is to end, and a failure to kill what has ended is none.
    let _ = child.kill();
    child.wait().map_err(failed)?;
    match answered {
        Ok(text) => text.map(|text| String::from_utf8_lossy(&text).into_owned()).map_err(failed),
        Err(_silent) => Err(StoreError::Malformed {
            path: path.to_owned(),
            found: format!("it does not answer {question} within {} s", PATIENCE.as_secs()),
        }),
    }
}
