// SPDX-License-Identifier: Apache-2.0
//! Ring 1: profile to record on the fake lab, exact.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::Path;

use harness::Cancel;
use harness::event::{Event, Receiver, Step};
use harness::lab::fake::FakeLab;
use harness::plan::{HOST_KERNEL, Plan, Profile};
use record::{Fidelity, Host, Manifest, Run, RunWriter, Status, Summary};

const PROFILE: &str = r#"
name = "fake"
[matrix]
mode = ["none", "iptables", "ipvs"]
route = ["nodeport-remote"]
services = [1, 1000]
workload = ["newconn"]
[run]
iterations = 2
"#;

fn manifest(profile: &Profile) -> Manifest {
    Manifest {
        schema_version: record::SCHEMA_VERSION,
        run_id: "test".to_owned(),
        started_at: "2026-01-01T00:00:00+00:00".to_owned(),
        ended_at: None,
        command: vec!["cargo".to_owned(), "xtask".to_owned(), "bench".to_owned()],
        profile_name: profile.name.clone(),
        profile: profile.resolved(),
        seed: profile.seed,
        revision: None,
        host: Host::default(),
        kernels: Vec::new(),
        tools: Vec::new(),
        interrupted: None,
    }
}

fn run(text: &str, dir: &Path, receiver: &mut dyn Receiver, cancel: &Cancel) -> Run {
    let profile = Profile::parse(Path::new("fake.toml"), text).unwrap();
    let plan = Plan::new(&profile, &[HOST_KERNEL]).unwrap();
    let summary = Summary {
        schema_version: record::SCHEMA_VERSION,
        run_id: "test".to_owned(),
        fidelity: Fidelity::Functional,
        cases: Vec::new(),
    };
    let mut writer = RunWriter::create(dir, &manifest(&profile), summary).unwrap();
    harness::run::run(&profile, &plan, &FakeLab::new(&profile), &mut writer, receiver, cancel)
        .unwrap();
    Run::open(dir).unwrap()
}

#[test]
fn a_plan_on_the_fake_lab_gives_exactly_this_record() {
    let dir = tempfile::tempdir().unwrap();
    let run = run(PROFILE, dir.path(), &mut Vec::new(), &Cancel::default());
    insta::assert_json_snapshot!(run.summary);
}

#[test]
fn the_slowest_requests_walks_are_kept_over_all_iterations_and_none_unless_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let plain = run(PROFILE, &dir.path().join("plain"), &mut Vec::new(), &Cancel::default());
    let text = format!("{PROFILE}trace_slowest = 3\n");
    let traced = run(&text, &dir.path().join("traced"), &mut Vec::new(), &Cancel::default());
    for case in traced.summary.cases.iter().filter(|case| case.status == Status::Measured) {
        assert_eq!(plain.walks(&case.id).unwrap(), []);
        let walks = traced.walks(&case.id).unwrap();
        assert_eq!(walks.len(), 3, "{}", case.id);
        for walk in walks {
            assert_eq!((&walk.case, walk.kept.as_str()), (&case.id, "slowest"));
            assert_eq!(Some(walk.total_ns), case.latency_ns.map(|latency| latency.max));
            assert_eq!(walk.steps.last().unwrap().at_ns, walk.total_ns);
            assert_eq!(walk.rules_walked, case.counts.unwrap().rules_walked);
        }
    }
}

#[test]
fn iterations_of_a_group_take_turns_forwards_then_backwards() {
    let dir = tempfile::tempdir().unwrap();
    let mut events: Vec<Event> = Vec::new();
    run(PROFILE, dir.path(), &mut events, &Cancel::default());
    let order: Vec<String> = events
        .iter()
        .filter_map(|event| match event {
            Event::Step { case, step: Step::Iteration(i) } if case.contains("svc-1/") => {
                Some(format!("{i} {}", case.split('/').nth(1).unwrap()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(order, ["1 none+bridge", "1 iptables+bridge", "2 iptables+bridge", "2 none+bridge"]);
}

#[test]
fn a_stop_keeps_the_groups_measured_so_far() {
    struct StopAfterFirstGroup(Cancel);
    impl Receiver for StopAfterFirstGroup {
        fn event(&mut self, event: &Event) {
            if matches!(event, Event::CaseEnd { .. }) {
                self.0.request();
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let cancel = Cancel::default();
    let run = run(PROFILE, dir.path(), &mut StopAfterFirstGroup(cancel.clone()), &cancel);
    let kept: Vec<_> = run.summary.cases.iter().map(|case| (case.services, case.status)).collect();
    assert_eq!(kept, [(1, Status::Measured), (1, Status::Measured), (1, Status::Skipped)]);
}

#[test]
fn names_with_slashes_dots_and_markup_stay_inside_the_run() {
    let text = r#"
[matrix]
mode = ["none"]
route = ["nodeport-remote"]
services = [1]
workload = ["../../<script>alert(1)</script>", "a b"]
[workload."../../<script>alert(1)</script>"]
connection = "newconn"
protocol = "http1"
arrival = "closed"
connections = 1
request_bytes = 0
response_bytes = 0
timeout = "1s"
[workload."a b"]
connection = "newconn"
protocol = "http1"
arrival = "closed"
connections = 1
request_bytes = 0
response_bytes = 0
timeout = "1s"
"#;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("run");
    let run = run(text, &dir, &mut Vec::new(), &Cancel::default());
    assert_eq!(run.summary.cases.len(), 2);
    for case in &run.summary.cases {
        assert!(run.histogram(&case.id, "latency").unwrap().is_some(), "{}", case.id);
    }
    let outside: Vec<_> =
        parent.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(outside, ["run"]);
}

#[test]
fn a_full_disk_is_an_error_and_earlier_cases_stay_whole() {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::parse(Path::new("fake.toml"), PROFILE).unwrap();
    let plan = Plan::new(&profile, &[HOST_KERNEL]).unwrap();
    let summary = Summary {
        schema_version: record::SCHEMA_VERSION,
        run_id: "test".to_owned(),
        fidelity: Fidelity::Functional,
        cases: Vec::new(),
    };
    let mut writer = RunWriter::create(dir.path(), &manifest(&profile), summary).unwrap();
    // A file where the second group's folder has to be: the write fails as on a full disk.
    let blocked = dir.path().join("cases/fake/none+bridge/nodeport-remote");
    std::fs::create_dir_all(&blocked).unwrap();
    std::fs::write(blocked.join("svc-1000"), "").unwrap();
    let mut events: Vec<Event> = Vec::new();
    let lab = FakeLab::new(&profile);
    let error =
        harness::run::run(&profile, &plan, &lab, &mut writer, &mut events, &Cancel::default())
            .unwrap_err();
    assert!(error.to_string().starts_with("failed to create "), "{error}");
    assert_eq!(Run::open(dir.path()).unwrap().summary.cases.len(), 3);
}

/// Measures the fake lab in blocks until `enough` says so.
fn in_blocks(
    blocks: u32,
    enough: &mut harness::run::Enough<'_>,
) -> (Run, Vec<Event>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "name = \"t\"\n[matrix]\nmode = [\"none\", \"iptables\"]\nservices = [10]\n\
         route = [\"direct-local\"]\nworkload = [\"newconn\"]\n[run]\niterations = 2\nblocks = {blocks}\n\
         add_one = true\n"
    );
    let profile = Profile::parse(Path::new("fake.toml"), &text).unwrap();
    let plan = Plan::new(&profile, &[HOST_KERNEL]).unwrap();
    let summary = Summary {
        schema_version: record::SCHEMA_VERSION,
        run_id: "test".to_owned(),
        fidelity: Fidelity::Functional,
        cases: Vec::new(),
    };
    let mut writer = RunWriter::create(dir.path(), &manifest(&profile), summary).unwrap();
    let (lab, mut events) = (FakeLab::new(&profile), Vec::new());
    let cancel = Cancel::default();
    harness::run::run_until(&profile, &plan, &lab, &mut writer, &mut events, &cancel, enough)
        .unwrap();
    (Run::open(dir.path()).unwrap(), events, dir)
}

#[test]
fn each_block_has_hosts_of_its_own_and_blocks_add_up_to_the_case() {
    let (run, events, _dir) = in_blocks(3, &mut |_| false);
    for case in &run.summary.cases {
        assert_eq!((case.blocks.len(), case.iterations.len()), (3, 6), "{}", case.id);
        let requests: u64 = case.blocks.iter().map(|block| block.requests).sum();
        assert_eq!(requests, case.requests);
        assert!(case.blocks.iter().all(|block| !block.stages.is_empty() && block.counts.is_some()));
        assert_eq!(case.add_one_ms, Some(0.5));
    }
    let ups: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            Event::Step { case, step: harness::event::Step::Up } => Some(case.as_str()),
            _ => None,
        })
        .map(|case| if case.contains("none") { "none" } else { "iptables" })
        .collect();
    // Who comes first changes from block to block.
    assert_eq!(ups, ["none", "iptables", "iptables", "none", "none", "iptables"]);
}

#[test]
fn a_group_ends_after_the_block_that_is_enough() {
    let mut asked = Vec::new();
    let (run, ..) = in_blocks(50, &mut |progress| {
        let blocks: Vec<usize> = progress.iter().map(|case| case.blocks.len()).collect();
        asked.push(blocks.clone());
        blocks == [4, 4]
    });
    assert_eq!(asked, [[1, 1], [2, 2], [3, 3], [4, 4]]);
    assert!(run.summary.cases.iter().all(|case| case.blocks.len() == 4));
}
