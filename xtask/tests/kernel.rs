// SPDX-License-Identifier: Apache-2.0
//! Ring 1: `lab kernel` on a cache folder made for the test. Nothing is built here: that takes minutes.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;

fn kernel(cache: &Path, arguments: &[&str]) -> Output {
    Command::cargo_bin("xtask")
        .unwrap()
        .args(["lab", "kernel"])
        .args(arguments)
        .env("XDG_CACHE_HOME", cache)
        .env("NO_COLOR", "1")
        .timeout(std::time::Duration::from_secs(60))
        .output()
        .unwrap()
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Puts a kernel into the store as `build` leaves one.
fn keep(cache: &Path, version: &str, digit: &str) -> String {
    let name = format!("{version}-{}", digit.repeat(8));
    let folder = cache.join("nic2pod/kernels").join(&name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("linux"), "").unwrap();
    let facts = serde_json::json!({
        "version": version,
        "config_sha256": digit.repeat(64),
        "source": {
            "kind": "package",
            "name": "linux-source-7.2",
            "version": "7.2.13-1",
            "origin": "http://deb.debian.org/debian/pool/main/l/linux/x.deb",
        },
        "built_at": format!("2026-11-25T10:00:0{digit}+00:00"),
        "seconds": 360,
        "toolchain": "gcc",
        "not_taken": [],
    });
    fs::write(folder.join("kernel.json"), facts.to_string()).unwrap();
    name
}

#[test]
fn an_empty_store_says_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let output = kernel(cache.path(), &["ls"]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output.stderr));
    let folder = cache.path().join("nic2pod/kernels");
    assert_eq!(
        words(&output.stdout),
        format!("no kernel is built in {}\ntry: cargo xtask lab kernel build\n", folder.display())
    );
    assert!(!folder.exists(), "looking makes nothing");
}

#[test]
fn kernels_are_listed_and_the_one_in_use_has_a_star() {
    let cache = tempfile::tempdir().unwrap();
    let (old, new) = (keep(cache.path(), "7.2.13", "1"), keep(cache.path(), "7.3.0", "2"));
    let output = kernel(cache.path(), &["use", "7.3.0"]);
    assert_eq!(words(&output.stdout), format!("{new} (Linux 7.3.0) is in use\n"));

    fs::create_dir_all(cache.path().join("nic2pod/kernels/torn")).unwrap();
    fs::write(cache.path().join("nic2pod/kernels/torn/kernel.json"), "{").unwrap();
    let output = kernel(cache.path(), &["ls"]);
    let text = words(&output.stdout);
    let first: Vec<_> =
        text.lines().filter(|line| line.contains("linux-source-7.2 7.2.13-1")).collect();
    assert!(first[0].starts_with(&format!("  {old} ")), "{text}");
    assert!(first[1].starts_with(&format!("* {new} ")), "{text}");
    assert!(words(&output.stderr).starts_with("warning: failed to use "), "{text}");

    fs::remove_dir_all(cache.path().join("nic2pod/kernels").join(&new)).unwrap();
    let output = kernel(cache.path(), &["ls"]);
    assert!(words(&output.stderr).contains("the kernel in use is gone"), "{:?}", output);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_cannot_be_used_or_built_from_ends_with_2_and_one_sentence() {
    let cache = tempfile::tempdir().unwrap();
    let name = keep(cache.path(), "7.2.13", "1");
    let config = cache.path().join("my.config");
    fs::write(&config, "CONFIG_KASAN=y\nKASAN_INLINE=y\n").unwrap();
    let (config, folder) = (config.to_str().unwrap(), cache.path().to_str().unwrap());
    for (arguments, expected) in [
        (vec!["use", "6.6"], format!("no kernel is called `6.6`; there are {name}")),
        (vec!["use", "/bin/true"], "it is no User-Mode Linux kernel".to_owned()),
        (vec!["use", "./nowhere"], "failed to find ./nowhere".to_owned()),
        (vec!["build", "--source", "/nowhere"], "failed to build from /nowhere".to_owned()),
        (vec!["build", "--source", folder], "it is no kernel tree".to_owned()),
        (vec!["build", "--config", config], "my.config:2: `KASAN_INLINE=y` is not".to_owned()),
        (vec!["build", "--config", "/nowhere"], "failed to read /nowhere: No such file".to_owned()),
    ] {
        let output = kernel(cache.path(), &arguments);
        let said = words(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(&expected), "{arguments:?}: {said}");
    }
}

#[test]
fn folders_of_killed_builds_go_with_lab_gc() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("nic2pod/kernels/.building-4194999-x");
    fs::create_dir_all(folder.join("objects")).unwrap();
    let output = Command::cargo_bin("xtask")
        .unwrap()
        .args(["lab", "gc"])
        .env("XDG_CACHE_HOME", cache.path())
        .env("TMPDIR", cache.path())
        .output()
        .unwrap();
    assert_eq!(words(&output.stdout), format!("removed {}\n", folder.display()));
    assert!(!folder.exists());
}
