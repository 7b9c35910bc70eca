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
        .args(["bench", "--lab", "fake", "--trace-slowest", "1", "--out"])
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
    assert!(dom.contains("The slowest requests"), "{log}");
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

#[test]
fn a_drawn_walk_needs_no_more_room_than_a_phone_has() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("trace.html");
    let trace = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["trace", "--lab", "fake", "--mode", "iptables", "--cni", "vxlan", "--html"])
        .arg(&page)
        .output()
        .unwrap();
    assert!(trace.status.success());
    // The page itself runs no script; a frame of 400 pixels around it may, and says how wide it got.
    let frame = dir.path().join("frame.html");
    let html = "<iframe src=\"trace.html\" width=\"400\" height=\"800\"></iframe><p>\n\
        <script>onload = () => { const d = document.querySelector('iframe').contentDocument;\n\
        document.querySelector('p').textContent =\n\
        `${d.documentElement.scrollWidth} ${d.querySelectorAll('.steps tbody td').length}`; }</script>";
    std::fs::write(&frame, html).unwrap();
    let profile = dir.path().join("profile");
    let url = format!("file://{}", frame.display());
    let (dom, log) = chromium(&profile, &["--allow-file-access-from-files", "--dump-dom", &url]);
    let said = dom.split("<p>").nth(1).and_then(|rest| rest.split_once('<')).unwrap().0.trim();
    let (width, cells) = said.split_once(' ').expect(&log);
    assert!(width.parse::<u32>().unwrap() <= 400, "{width} pixels wide: {log}");
    assert!(cells.parse::<u32>().unwrap() > 50, "{cells} cells: {log}");
}
