// SPDX-License-Identifier: Apache-2.0
//! Histories of folders of runs: changes at their place, hosts apart, and what cannot be read named.

use std::fs;
use std::path::Path;

use record::{CaseRecord, Fidelity, Quantiles};
use reports::history::{Metric, find, hosts, overs};
use reports::render_history;
use serde_json::Value;

use crate::support::{Spec, run};
use crate::tags;

/// Times around 100 µs, 2 % of noise, always the same for a place.
fn noise(place: usize) -> f64 {
    1.0 + 0.02 * ((place * 7919 % 101) as f64 / 50.0 - 1.0)
}

fn case(ns: f64, rules: u64) -> CaseRecord {
    let (mut case, _) = Spec::new("iptables", "nodeport-remote", 1000, "newconn").measured(70);
    let scaled = |q: Quantiles| Quantiles { p50: ns as u64, p99: (ns * 3.0) as u64, ..q };
    case.latency_ns = case.latency_ns.map(scaled);
    case.first_packet_ns = case.first_packet_ns.map(scaled);
    case.throughput_rps = Some(1e9 / ns);
    if let Some(counts) = &mut case.counts {
        counts.rules_walked = Some(rules);
    }
    case
}

/// Writes a run that began at minute `place` of a day's hours, and lets `edit` change its manifest.
fn write(home: &Path, place: usize, ns: f64, rules: u64, edit: impl Fn(&mut Value)) {
    let dir = home.join(format!("run-{place:03}"));
    run(&dir, &format!("run-{place:03}"), vec![(case(ns, rules), None)]);
    let file = dir.join("manifest.json");
    let text = fs::read_to_string(&file).expect("the run has a manifest");
    let mut manifest: Value = serde_json::from_str(&text).expect("the writer writes JSON");
    manifest["started_at"] =
        format!("2026-11-23T{:02}:{:02}:00+00:00", place / 60, place % 60).into();
    edit(&mut manifest);
    fs::write(&file, manifest.to_string()).expect("a writable folder");
}

#[test]
fn a_step_is_marked_at_its_run_in_every_time_and_a_count_at_once() {
    let home = tempfile::tempdir().unwrap();
    for place in 0..24 {
        let level = if place < 13 { 100_000.0 } else { 112_000.0 };
        let rules = if place < 20 { 1007 } else { 1008 };
        write(home.path(), place, level * noise(place), rules, |_| ());
    }
    let found = find(home.path()).unwrap();
    let hosted = &hosts(&found.runs)[0];
    for over in overs(hosted) {
        let places: Vec<_> = over.series[0].changes.iter().map(|change| change.at).collect();
        match over.metric {
            Metric::Rules => assert_eq!(places, [20]),
            Metric::Hooks | Metric::Packets | Metric::Conntrack => assert_eq!(places, [0; 0]),
            metric => assert_eq!(places, [13], "{metric:?}"),
        }
    }
    let made = render_history(home.path(), &home.path().join("out")).unwrap();
    assert_eq!((made.runs, made.unreadable), (24, 0));
    let page = fs::read_to_string(made.html).unwrap();
    let used = tags::read(&page).unwrap();
    assert!(used.runs_only_its_own(&page));
    assert!(page.contains("run-013 (") && page.contains("×1.12"), "{page}");
    let markdown = fs::read_to_string(made.markdown).unwrap();
    assert!(markdown.contains("run-020") && markdown.contains("exact"), "{markdown}");
}

#[test]
fn noise_alone_is_not_marked() {
    let home = tempfile::tempdir().unwrap();
    (0..24).for_each(|place| write(home.path(), place, 100_000.0 * noise(place), 1007, |_| ()));
    let made = render_history(home.path(), home.path()).unwrap();
    let page = fs::read_to_string(made.html).unwrap();
    assert!(page.contains("No level changed in 24 runs."), "{page}");
    assert!(page.contains("4 series of exact counts never changed"));
}

#[test]
fn runs_of_another_kernel_or_profile_are_not_on_the_same_line() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), 0, 100_000.0, 1007, |_| ());
    write(home.path(), 1, 100_000.0, 1007, |m| m["host"]["kernel_release"] = "6.1.0".into());
    write(home.path(), 2, 100_000.0, 1007, |m| m["profile_name"] = "smoke".into());
    write(home.path(), 3, 100_000.0, 1007, |_| ());
    let found = find(home.path()).unwrap();
    let hosts = hosts(&found.runs);
    assert_eq!(hosts.iter().map(|host| host.runs.len()).collect::<Vec<_>>(), [2, 1, 1]);
    assert!(hosts[1].title.contains("Linux 6.1.0") && hosts[2].title.contains("profile smoke"));
}

#[test]
fn runs_are_in_the_order_of_time_whatever_their_zones() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), 0, 100_000.0, 1007, |m| {
        m["started_at"] = "2026-11-23T12:00:00+05:00".into()
    });
    write(home.path(), 1, 100_000.0, 1007, |m| {
        m["started_at"] = "2026-11-23T06:30:00+00:00".into()
    });
    let found = find(home.path()).unwrap();
    let names: Vec<_> = found.runs.iter().map(|run| run.manifest.run_id.as_str()).collect();
    assert_eq!(names, ["run-001", "run-000"]);
}

#[test]
fn what_cannot_be_read_is_listed_with_the_reason() {
    let home = tempfile::tempdir().unwrap();
    (0..6).for_each(|place| write(home.path(), place, 100_000.0, 1007, |_| ()));
    let dir = |place: usize| home.path().join(format!("run-{place:03}"));
    let cut = dir(1).join("summary.json");
    let text = fs::read_to_string(&cut).unwrap();
    fs::write(&cut, &text[..text.len() / 2]).unwrap();
    write(home.path(), 12, 1.0, 1, |m| m["schema_version"] = 99.into());
    write(home.path(), 13, 1.0, 1, |m| m["started_at"] = "<yesterday>".into());
    write(home.path(), 14, 1.0, 1, |m| m["run_id"] = "run-000".into());
    fs::remove_file(dir(2).join("manifest.json")).unwrap();
    let made = render_history(home.path(), &home.path().join("out")).unwrap();
    assert_eq!((made.runs, made.unreadable), (4, 5));
    let page = fs::read_to_string(made.html).unwrap();
    tags::read(&page).unwrap();
    for reason in [
        "EOF while parsing",
        "schema_version is 99",
        "its start is no time",
        "is there twice",
        "No such file",
    ] {
        assert!(page.contains(reason), "{reason}");
    }
}

#[test]
fn an_empty_folder_makes_a_page_and_a_missing_one_an_error() {
    let home = tempfile::tempdir().unwrap();
    let made = render_history(home.path(), home.path()).unwrap();
    assert_eq!((made.runs, made.unreadable), (0, 0));
    let error = render_history(&home.path().join("nowhere"), home.path()).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn times_of_an_emulated_processor_have_no_history() {
    let home = tempfile::tempdir().unwrap();
    (0..2).for_each(|place| write(home.path(), place, 100_000.0, 1007, |_| ()));
    let mut found = find(home.path()).unwrap();
    found.runs.iter_mut().for_each(|run| run.summary.fidelity = Fidelity::Functional);
    let metrics: Vec<_> = overs(&hosts(&found.runs)[0]).iter().map(|over| over.metric).collect();
    assert!(metrics.iter().all(|metric| metric.counted()) && metrics.len() == 4, "{metrics:?}");
}
