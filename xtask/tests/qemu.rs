// SPDX-License-Identifier: Apache-2.0
//! Ring 3: a distribution's kernel in QEMU, with this program as process 1. The kernel is the file
//! that NIC2POD_QEMU_KERNEL names. No times are asserted: an emulated processor has none.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops where it fails and says what it skips"
)]

use std::path::Path;
use std::process::Command;

use harness::kernel::{Guest, Init, Kernel, Qemu};
use record::Fidelity;
use serde_json::Value;

/// The kernel's path, if it and QEMU are here.
fn kernel() -> Option<String> {
    let Ok(path) = std::env::var("NIC2POD_QEMU_KERNEL") else {
        eprintln!("SKIP NIC2POD_QEMU_KERNEL names no kernel");
        return None;
    };
    match Qemu::find(Some(&path)) {
        Ok(_) => Some(path),
        // QEMU is the one thing that a machine with a kernel may lack.
        Err(error) if error.to_string().starts_with("needs qemu-system-") => {
            eprintln!("SKIP {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_guest_boots_says_which_kernel_it_runs_and_powers_off() {
    let Some(path) = kernel() else { return };
    let kernel = Qemu::find(Some(&path)).unwrap();
    let facts = kernel.facts();
    assert_eq!(facts.label, format!("qemu-{}", facts.release));
    assert_eq!(facts.sha256.len(), 64);
    match facts.accelerator.as_str() {
        "kvm" => {
            assert_eq!((facts.fidelity, &facts.accelerator_reason), (Fidelity::Relative, &None))
        }
        "tcg" => {
            assert_eq!(facts.fidelity, Fidelity::Functional);
            eprintln!("no KVM: {}", facts.accelerator_reason.as_deref().unwrap());
        }
        other => panic!("{other}"),
    }
    let program = Path::new(env!("CARGO_BIN_EXE_xtask")).to_owned();
    let init = Init { program, others: Vec::new(), memory_mib: 1024, cpus: 2 };
    let (guest, host, took) =
        Guest::boot(&kernel, &init).unwrap_or_else(|error| panic!("{error:?}"));
    eprintln!("booted in {} ms", took.as_millis());
    assert_eq!(host.kernel_release, kernel.facts().release);
    assert_eq!(host.cpus, 2);
    // Its configuration came along, and the modules whose sysctls are looked at are loaded.
    assert!(host.kernel_config.contains_key("CONFIG_NF_CONNTRACK"), "{:?}", host.kernel_config);
    assert!(host.sysctls.contains_key("net.netfilter.nf_conntrack_max"), "{:?}", host.sysctls);
    guest.down().unwrap();
}

/// A run's cases.
fn run(kernel: &str, arguments: &[&str]) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["bench", "--kernel", &format!("qemu:{kernel}")])
        .args(["--cni", "bridge", "--services", "10", "--workload", "newconn"])
        .args(["--duration", "300ms", "--iterations", "1", "--json", "--out"])
        .arg(dir.path().join("run"))
        .args(arguments)
        .env("CI", "true")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cases = summary["cases"].as_array().unwrap().clone();
    for case in &cases {
        assert_eq!(case["status"], "measured", "{case:#}\n{stderr}");
        assert_eq!(case["errors"], 0, "{case:#}");
        assert!(case["requests"].as_u64().unwrap() > 0, "{case:#}");
    }
    cases
}

#[test]
fn modes_carry_requests_on_a_kernel_that_loads_their_modules_when_asked() {
    let Some(path) = kernel() else { return };
    let cases = run(&path, &["--mode", "ipvs,nftables", "--route", "nodeport-remote"]);
    assert_eq!(cases.len(), 2);
}

#[test]
fn ipvs_carries_connections_of_ipv6_by_as_many_rules() {
    let Some(path) = kernel() else { return };
    let routes = "clusterip-remote,nodeport-remote,lbip-local";
    let cases = run(&path, &["--mode", "ipvs", "--ip", "ipv4,ipv6,dual-ipv6", "--route", routes]);
    assert_eq!(cases.len(), 3 * 3);
    for group in cases.chunks(3) {
        let [four, six, dual] = group else { panic!("each family, and both") };
        // Both have their servers in one table, and their addresses on one device.
        assert_eq!(dual["counts"]["rules_walked"], six["counts"]["rules_walked"], "{dual:#}");
        let evidence = dual["proof"]["evidence"].to_string();
        for address in ["10.", "[fd00:10:"] {
            let counted = format!("ip_vs has the connection {address}");
            assert!(evidence.contains(&counted), "{evidence}");
        }
        assert_eq!((&six["mode"], &six["route"]), (&Value::from("ipvs.ipv6"), &four["route"]));
        assert!(six["joined_ratio"].as_f64().unwrap() >= 0.99, "{six:#}");
        for count in ["rules_walked", "conntrack_entries"] {
            assert_eq!(six["counts"][count], four["counts"][count], "{count}: {six:#}");
        }
        let evidence = six["proof"]["evidence"].to_string();
        assert!(evidence.contains("ip_vs has the connection [fd00:10:"), "{evidence}");
        assert!(evidence.contains("ipvsadm --stats of -t [fd00:10:"), "{evidence}");
    }
}
