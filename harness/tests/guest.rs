// SPDX-License-Identifier: Apache-2.0
//! Guests that do not do what they should: each ends as one sentence and the last lines of its
//! console, and none outlives the process that booted it. Ring 3: the kernel is the file that
//! NIC2POD_UML names.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops where it fails and says what it skips"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::kernel::{Boot, Guest, Init, Kernel, KernelError, Uml};
use record::GuestKernel;

/// A guest that is given less patience than a real one.
#[derive(Debug)]
struct Hasty(Uml);

impl Kernel for Hasty {
    fn facts(&self) -> &GuestKernel {
        self.0.facts()
    }

    fn relabel(&mut self, label: String) {
        self.0.relabel(label);
    }

    fn processors(&self) -> u32 {
        self.0.processors()
    }

    fn boot(&self, init: &Init) -> Result<Boot, KernelError> {
        let boot_max = Duration::from_secs(10);
        Ok(Boot { boot_max, silence_max: Duration::from_secs(3), ..self.0.boot(init)? })
    }
}

fn kernel() -> Option<Hasty> {
    let Some(path) = std::env::var_os("NIC2POD_UML") else {
        eprintln!("SKIP NIC2POD_UML names no kernel");
        return None;
    };
    Some(Hasty(Uml::find(Some(path.to_str().unwrap())).unwrap()))
}

const BOOTED: &str = r#"{"booted":{"kernel_release":"","kernel_version":"","machine":"","cpu_model":"","cpus":1,"governor":null,"memory_bytes":0,"load_average":0.0,"sysctls":{},"kernel_config":{},"privilege":""}}"#;

/// A program that is process 1 instead of the real one. Not below /tmp: the guest has its own.
fn init(dir: &Path, script: &str) -> Init {
    let program = dir.join("init");
    let text = format!(
        "#!/bin/sh\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin\nmount -t proc proc /proc\n\
         stty -F /dev/ttyS0 raw -echo\n{script}\n"
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    Init { program, others: Vec::new(), memory_mib: 256, cpus: 1 }
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Boots it and returns why it failed: what was found, and the console's last lines.
fn failure(script: &str) -> Option<(String, String)> {
    let kernel = kernel()?;
    let dir = scratch();
    let error = Guest::boot(&kernel, &init(dir.path(), script)).unwrap_err();
    let KernelError::Guest { label, found, console } = error else { panic!("{error}") };
    assert_eq!(label, kernel.facts().label);
    Some((found, console))
}

#[test]
fn a_panic_is_told_with_the_kernels_own_words_and_the_last_lines_before_it() {
    let Some((found, console)) = failure("echo last words; echo c >/proc/sysrq-trigger") else {
        return;
    };
    assert_eq!(found, "the guest stopped: it panicked: sysrq triggered crash");
    assert!(console.contains("last words\n"), "{console}");
}

#[test]
fn a_guest_without_memory_is_told_as_one() {
    let script = "echo 1 >/proc/sys/vm/panic_on_oom; tail /dev/zero";
    let Some((found, console)) = failure(script) else { return };
    assert!(found.starts_with("the guest stopped: it ran out of memory"), "{found}\n{console}");
}

#[test]
fn a_guest_that_never_says_a_word_is_ended_at_its_deadline() {
    let Some((found, console)) = failure("echo busy; while :; do :; done") else { return };
    assert!(found.starts_with("the guest gave no sign of life for 10 s"), "{found}");
    assert!(console.contains("busy\n"), "{console}");
}

#[test]
fn a_guest_that_powers_off_too_early_and_one_that_talks_nonsense_are_refused() {
    let Some((found, _)) = failure("echo o >/proc/sysrq-trigger; sleep 9") else { return };
    assert!(found.starts_with("the guest ended before its time"), "{found}");
    let (found, _) = failure("echo '{\"no\": 1}' >/dev/ttyS0; sleep 9").unwrap();
    assert!(found.starts_with("the guest said \"{\\\"no\\\": 1}\""), "{found}");
    let (found, _) =
        failure("echo '\"alive\"' >/dev/ttyS0; echo '\"done\"' >/dev/ttyS0; sleep 9").unwrap();
    assert!(found.starts_with("the guest answered what it was not asked: Done"), "{found}");
}

/// Processes of this machine whose command line has a word in it.
fn processes(word: &str) -> usize {
    let has = |entry: &fs::DirEntry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(word)
    };
    fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(has).count()
}

#[test]
fn a_guest_ends_with_the_process_that_booted_it_however_that_ends() {
    if kernel().is_none() {
        return;
    }
    let dir = scratch();
    let word = dir.path().join("init").display().to_string();
    let mut stage = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "stage_boot_and_wait"])
        .env("GUEST_DIR", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(stage.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("booted")));
    assert!(processes(&word) >= 1);
    stage.kill().unwrap();
    stage.wait().unwrap();
    // The kernel sends the signals when the last thread is gone; helpers of the guest follow it.
    let deadline = Instant::now() + Duration::from_secs(10);
    while processes(&word) > 0 {
        assert!(Instant::now() < deadline, "{} processes are left", processes(&word));
        std::thread::yield_now();
    }
}

#[test]
#[ignore = "run by a_guest_ends_with_the_process_that_booted_it_however_that_ends"]
fn stage_boot_and_wait() {
    let dir = std::env::var_os("GUEST_DIR").unwrap();
    let script = format!("echo '{BOOTED}' >/dev/ttyS0; while :; do sleep 1; done");
    let booted = Guest::boot(&kernel().unwrap(), &init(Path::new(&dir), &script)).unwrap();
    println!("booted");
    // Until it is killed.
    let _ = std::io::stdin().lines().count();
    drop(booted);
}
