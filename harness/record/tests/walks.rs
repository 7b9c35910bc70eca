// SPDX-License-Identifier: Apache-2.0
//! Walks written with a case and read back, and records of before there were any.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs::{self, File};
use std::path::Path;

use record::{
    CaseFiles, CaseRecord, Counts, Fidelity, Host, Leg, Manifest, MatchedRule, Place, RecordError,
    Run, RunWriter, SCHEMA_VERSION, Summary, WALKS_BYTES_MAX, Walk, WalkStep,
};

/// A case as records had it before there were walks, counts and effects of probes.
const OLD_CASE: &str = r#"{
  "id": "netns/none+ptp/direct-local/svc-1/newconn", "lab": "netns", "kernel": "host",
  "mode": "none", "cni": "ptp", "route": "direct-local", "services": 1, "workload": "newconn",
  "status": "measured", "reason": null, "failure": null, "proof": null, "requests": 1,
  "errors": 0, "errors_by_kind": {}, "throughput_rps": null, "latency_ns": null,
  "service_time_ns": null, "connect_ns": null, "first_byte_ns": null, "last_byte_ns": null,
  "lateness_ns": null, "first_packet_ns": null, "stages": [], "residual_ns": null,
  "joined_ratio": null,
  "probe": {"engine": "tap", "events": 8, "dropped": 0, "ns_per_event": 300.0, "sample_every": 1},
  "notes": [], "tuples": null, "conntrack": null, "rules": null, "iterations": [],
  "load_peak_rss_bytes": null, "lab_up_ms": null, "install_ms": null, "prove_ms": null,
  "down_ms": null }"#;

fn walk(total_ns: u64) -> Walk {
    let step = WalkStep {
        at_ns: 0,
        since_ns: 0,
        leg: Leg::Request,
        packet: "SYN".to_owned(),
        stage: String::new(),
        host: "node1".to_owned(),
        place: Place::Hook,
        name: "PREROUTING after NAT".to_owned(),
        source: Some("10.8.0.1:40000".to_owned()),
        destination: None,
        encapsulated: false,
        words: "The node chooses a pod.".to_owned(),
        objects: vec!["hook".to_owned()],
        rules: vec![MatchedRule {
            hook: "PREROUTING".to_owned(),
            table: "nat".to_owned(),
            chain: "KUBE-SERVICES".to_owned(),
            position: 4,
            of: 12,
            walked_before: 9,
            text: "-A KUBE-SERVICES".to_owned(),
        }],
    };
    Walk {
        case: "c".to_owned(),
        kept: "slowest".to_owned(),
        engine: "bpf".to_owned(),
        client: "10.8.0.1:40000".to_owned(),
        destination: "192.168.0.11:30080".to_owned(),
        backend: "pod2-1 10.244.1.2:8080".to_owned(),
        total_ns,
        steps: vec![step],
        rules_walked: Some(13),
        queries: Vec::new(),
        conntrack: Vec::new(),
        notes: Vec::new(),
    }
}

fn written(dir: &Path, walks: Vec<Walk>) -> (Run, CaseRecord) {
    let case: CaseRecord = serde_json::from_str(OLD_CASE).unwrap();
    let summary = Summary {
        schema_version: SCHEMA_VERSION,
        run_id: "r".to_owned(),
        fidelity: Fidelity::Functional,
        cases: Vec::new(),
    };
    let manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        run_id: "r".to_owned(),
        started_at: String::new(),
        ended_at: None,
        command: Vec::new(),
        profile_name: String::new(),
        profile: String::new(),
        seed: 1,
        revision: None,
        host: Host::default(),
        kernels: Vec::new(),
        tools: Vec::new(),
        interrupted: None,
    };
    let mut writer = RunWriter::create(dir, &manifest, summary).unwrap();
    writer.case(case.clone(), &CaseFiles { walks, ..CaseFiles::default() }).unwrap();
    (Run::open(dir).unwrap(), case)
}

#[test]
fn walks_read_back_as_they_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let walks = vec![walk(2), walk(1)];
    let (run, case) = written(dir.path(), walks.clone());
    assert_eq!(run.walks(&case.id).unwrap(), walks);
}

#[test]
fn a_case_without_walks_has_no_file_and_reads_as_none() {
    let dir = tempfile::tempdir().unwrap();
    let (run, case) = written(dir.path(), Vec::new());
    assert!(!dir.path().join("cases").join(&case.id).join("walks.json").exists());
    assert_eq!(run.walks(&case.id).unwrap(), []);
}

#[test]
fn a_record_of_before_counts_reads_with_none_and_goes_round() {
    let case: CaseRecord = serde_json::from_str(OLD_CASE).unwrap();
    let probe = case.probe.as_ref().unwrap();
    assert_eq!(
        (case.counts, probe.effect, probe.runs, probe.reason.as_deref()),
        (None, None, None, None)
    );
    let counted =
        CaseRecord { counts: Some(Counts { rules_walked: Some(13), ..Counts::default() }), ..case };
    let text = serde_json::to_string(&counted).unwrap();
    assert_eq!(serde_json::from_str::<CaseRecord>(&text).unwrap(), counted);
}

#[test]
fn a_damaged_file_is_named_and_one_too_large_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (run, case) = written(dir.path(), vec![walk(1)]);
    let path = dir.path().join("cases").join(&case.id).join("walks.json");
    fs::write(&path, "[{\"case\": 3}]").unwrap();
    let error = run.walks(&case.id).unwrap_err().to_string();
    assert!(error.contains("walks.json: [0].case"), "{error}");
    // A hole in the file takes no room on the disk.
    let file = File::create(&path).unwrap();
    file.set_len(WALKS_BYTES_MAX + 1).unwrap();
    let error = run.walks(&case.id).unwrap_err();
    assert!(matches!(error, RecordError::TooLarge { .. }), "{error}");
}
