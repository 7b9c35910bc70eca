// SPDX-License-Identifier: Apache-2.0
//! Programs on hosts: they answer, they are bounded, and they do not outlive the lab.

use std::path::Path;
use std::time::{Duration, Instant};

use harness::lab::netns::{NetnsError, Topology};
use harness::net::{Agent, Netns, Tool, ToolError};
use harness::plan::CniKind;

use crate::{down, lab, may_make_namespaces};

#[test]
fn a_job_that_panics_does_not_end_the_host() {
    if !may_make_namespaces() {
        return;
    }
    let host = Netns::create("h").unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        host.run(|| panic!("on purpose"));
    }));
    assert!(caught.is_err());
    assert_eq!(host.run(|| 7), 7);
}

#[test]
fn a_tool_that_hangs_is_killed_and_named_with_what_it_said() {
    if !may_make_namespaces() {
        return;
    }
    let host = Netns::create("h").unwrap();
    let started = Instant::now();
    let error = Tool::new("sh")
        .args(["-c", "echo waiting for a lock >&2; exec sleep 3600"])
        .within(Duration::from_millis(200))
        .run_on(&host)
        .unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(60), "it was waited for");
    let ToolError::Silent { program, stderr, .. } = error else { panic!("{error}") };
    assert!(program.starts_with("sh -c"), "{program}");
    assert_eq!(stderr, "waiting for a lock\n");
}

#[test]
fn a_tool_gets_all_of_a_large_input_and_gives_all_of_a_large_output() {
    if !may_make_namespaces() {
        return;
    }
    let host = Netns::create("h").unwrap();
    let text = "-A KUBE-SERVICES -j RETURN\n".repeat(100_000);
    assert_eq!(Tool::new("cat").stdin(text.clone()).run_on(&host).unwrap(), text);
}

#[test]
fn each_host_has_an_xtables_lock_of_its_own() {
    if may_make_namespaces() {
        xtables_locks_are_separate();
    }
}

pub(crate) fn xtables_locks_are_separate() {
    let (one, other) = (Netns::create("one").unwrap(), Netns::create("other").unwrap());
    let listing = "iptables-legacy --wait 1 -S";
    // The lock is asked for before the kernel is.
    if let Err(error) = Tool::new("sh").args(["-c", listing]).run_on(&other)
        && error.to_string().contains("Table does not exist")
    {
        eprintln!("SKIP the kernel has no ip_tables (CONFIG_IP_NF_IPTABLES): {error}");
        return;
    }
    let locked = format!("exec 9>\"$XTABLES_LOCKFILE\"; flock 9; {listing}");
    let error = Tool::new("sh").args(["-c", &locked]).run_on(&one).unwrap_err();
    assert!(error.to_string().contains("xtables lock"), "{error}");
    let elsewhere = Tool::new("sh").args(["-c", listing]).run_on(&other).unwrap();
    assert!(elsewhere.contains("-P INPUT ACCEPT"), "{elsewhere}");
}

#[test]
fn an_agent_that_falls_silent_is_quoted() {
    if !may_make_namespaces() {
        return;
    }
    let host = Netns::create("h").unwrap();
    let script = "echo no address >&2; echo 1; read line";
    let mut agent = Agent::start(&host, Path::new("sh"), &["-c", script]).unwrap();
    assert_eq!(agent.hear::<u32>(Duration::from_secs(5)).unwrap(), 1);
    let silent = agent.hear::<u32>(Duration::from_millis(50)).unwrap_err();
    assert!(silent.to_string().contains("no address"), "{silent}");
    agent.tell(&1).unwrap();
    let ended = agent.hear::<u32>(Duration::from_secs(5)).unwrap_err();
    assert!(
        matches!(&ended, ToolError::Ended { stderr, .. } if stderr == "no address\n"),
        "{ended}"
    );
}

#[test]
fn servers_are_awaited_and_one_that_cannot_serve_is_quoted() {
    let Some(mut ready) = lab(&Topology::default(), CniKind::Ptp) else { return };
    let standin = r#"read spec; case $spec in *10.244.*:8080*) echo '"ready"';; esac; cat"#;
    ready.start_targets(Path::new("sh"), &["-c", standin], None).unwrap();
    assert!(ready.pods().iter().all(|pod| pod.target.is_some()));
    down(ready);

    let Some(mut refused) = lab(&Topology::default(), CniKind::Ptp) else { return };
    let standin = r#"read spec; echo '{"failed":"port 8080 is taken"}'; cat"#;
    let error = refused.start_targets(Path::new("sh"), &["-c", standin], None).unwrap_err();
    assert!(matches!(&error, NetnsError::TargetRefused { reason, .. } if reason.contains("taken")));
    let error = refused.start_targets(Path::new("/no/such/program"), &[], None).unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    down(refused);
}

#[test]
fn a_process_left_on_a_host_is_reported() {
    let Some(lab) = lab(&Topology::default(), CniKind::Ptp) else { return };
    let mut stray = lab.nodes()[1]
        .netns
        .run(|| std::process::Command::new("sleep").arg("3600").spawn())
        .unwrap();
    let report = lab.down();
    stray.kill().unwrap();
    stray.wait().unwrap();
    let expected = format!("process {} (sleep) is still on node2", stray.id());
    assert_eq!(report.errors, [expected]);
}
