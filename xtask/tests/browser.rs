// SPDX-License-Identifier: Apache-2.0
//! Ring 4: the report opened from disk in headless Chromium.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::Path;
use std::process::Command;

const QUIET: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
];

fn chromium(profile: &Path, arguments: &[&str]) -> (String, String) {
    let output = Command::new("timeout")
        .args(["60", "chromium"])
        .args(QUIET)
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn the_report_opens_from_disk_without_an_error_or_a_request() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let bench = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["bench", "--lab", "fake", "--out"])
        .arg(&run)
        .output()
        .unwrap();
    assert!(bench.status.success());
    let url = format!("file://{}", run.join("report.html").display());
    let profile = dir.path().join("profile");
    // Every request that is not a file would have to resolve a name; none may.
    let rules = "--host-resolver-rules=MAP * ~NOTFOUND";
    let (dom, log) = chromium(&profile, &[rules, "--dump-dom", &url]);
    assert!(dom.contains("<svg") && dom.contains("nodeport-remote"), "{log}");
    let complaints: Vec<_> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    let html = std::fs::read_to_string(run.join("report.html")).unwrap();
    for outside in ["src=\"http", "href=\"http", "url(http", "@import"] {
        assert!(!html.contains(outside), "{outside}");
    }
    let picture = dir.path().join("report.png");
    let shot = format!("--screenshot={}", picture.display());
    chromium(&profile, &[rules, "--window-size=1280,2000", &shot, &url]);
    assert!(picture.metadata().unwrap().len() > 20_000);
}
