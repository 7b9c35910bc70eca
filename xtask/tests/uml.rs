// SPDX-License-Identifier: Apache-2.0
//! Ring 3: `bench` inside User-Mode Linux, a kernel with ip_vs that runs as a process. The kernel is
//! the file that NIC2POD_UML names.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops where it fails and says what it skips"
)]

mod guest;

use std::fs;

use serde_json::Value;

use guest::{boot, init, kernel};

#[test]
fn ipvs_carries_requests_and_is_proved_by_its_own_counters() {
    let Some(kernel) = kernel() else { return };
    // Not below /tmp: the guest has one of its own.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let out = dir.path().display();
    let script = format!(
        "{xtask} bench --mode none,iptables,ipvs,nftables --cni bridge \
  --route nodeport-remote,clusterip-local --services 100 \
  --workload newconn --duration 300ms --iterations 1 --json --out {out}/run \
  >{out}/stdout 2>{out}/stderr
echo $? >{out}/status",
        xtask = env!("CARGO_BIN_EXE_xtask"),
    );
    let console = boot(&kernel, dir.path(), &init(&script));
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    let stderr = read("stderr");
    assert_eq!(read("status").trim(), "0", "{stderr}\n{console}");
    let summary: Value = serde_json::from_str(&read("stdout")).unwrap();
    let cases = summary["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 4 * 2);
    for case in cases {
        assert_eq!(case["status"], "measured", "{case:#}");
        assert_eq!(case["errors"], 0, "{case:#}");
        assert!(case["requests"].as_u64().unwrap() > 0, "{case:#}");
        assert!(case["joined_ratio"].as_f64().unwrap() >= 0.99, "{case:#}");
    }
    let evidence = |case: &Value| case["proof"]["evidence"].to_string();
    let ipvs: Vec<_> = cases.iter().filter(|case| case["mode"] == "ipvs").collect();
    assert_eq!(ipvs.len(), 2);
    assert!(
        ipvs.iter().all(|case| evidence(case).contains("ip_vs has the connection")
            && evidence(case).contains("ipvsadm --stats of")),
        "{}",
        evidence(ipvs[0])
    );
}
