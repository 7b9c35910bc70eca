// SPDX-License-Identifier: Apache-2.0
//! The machine the lab runs on: left as found, whoever runs it and however it ends.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::lab::netns::{NetnsError, NetnsLab, Topology};
use harness::net::privilege::{Privilege, enter_private_namespaces};
use harness::net::{Agent, Change, LinkKind, Mac, Netns, NewLink, Peer, State};
use harness::plan::CniKind;

use crate::{lab, may_make_namespaces};

/// Set for the tests below that are run in a process of their own.
const STAGE: &str = "NIC2POD_TEST_STAGE";

/// This test program once more, for one test.
fn myself(test: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", test, "--include-ignored", "--nocapture"]).env(STAGE, "1");
    command
}

#[test]
fn a_lab_that_cannot_be_is_refused_before_anything_is_made() {
    let topology = Topology { nodes: 65, ..Topology::default() };
    let error = NetnsLab::up(&topology, CniKind::Ptp).unwrap_err();
    assert!(matches!(error, NetnsError::Topology(_)));
    assert_eq!(error.to_string(), "failed to lay out the lab: nodes is 65; it has to be 1 to 64");
}

#[test]
fn the_hosts_own_network_is_left_as_found() {
    let before = own_network();
    for &cni in CniKind::OWN {
        let Some(lab) = lab(&Topology::default(), cni) else { continue };
        assert_eq!(own_network(), before, "{cni}: while the lab is up");
        crate::down(lab);
        assert_eq!(own_network(), before, "{cni}: after the lab is down");
    }
}

/// What the lab could have touched of the network this process was started in.
fn own_network() -> Vec<String> {
    let mut found = Vec::new();
    for args in [
        &["-o", "link"][..],
        &["-o", "address"],
        &["route", "show", "table", "all"],
        &["rule"],
        &["neighbour", "show", "nud", "permanent"],
    ] {
        let output = Command::new("ip").args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // A kernel without CONFIG_IP_MULTIPLE_TABLES has no rules to change.
        if args == ["rule"] && said.contains("Operation not supported") {
            eprintln!("SKIP ip rule: {said}");
            continue;
        }
        assert!(output.status.success(), "ip {args:?}: {said}");
        found.push(String::from_utf8(output.stdout).unwrap());
    }
    let devices = std::fs::read_to_string("/proc/net/dev").unwrap();
    found.extend(devices.lines().filter_map(|line| Some(line.split_once(':')?.0.to_owned())));
    for dir in ["ipv4/conf/all", "ipv4/conf/default", "ipv6/conf/all", "bridge", "ipv4", "core"] {
        let Ok(entries) = std::fs::read_dir(Path::new("/proc/sys/net").join(dir)) else { continue };
        let mut settings: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            // Not settings: random at each reading, or a figure of the moment.
            .filter(|path| !path.ends_with("tcp_fastopen_key") && !path.ends_with("netdev_rss_key"))
            .filter_map(|path| Some(format!("{path:?} {}", std::fs::read_to_string(&path).ok()?)))
            .collect();
        settings.sort();
        found.extend(settings);
    }
    found
}

/// Kills a process that has a lab up and watches the namespaces go: each has a veth end in a
/// namespace of ours, which the kernel takes away when it dismantles the namespace and no sooner.
#[test]
fn a_lab_whose_process_is_killed_leaves_no_process_and_no_namespace() {
    if !may_make_namespaces() {
        return;
    }
    let witness = Netns::create("witness").unwrap();
    let thread = witness.run(nix::unistd::gettid);
    let path = format!("/proc/{}/task/{thread}/ns/net", std::process::id());
    let mut child = myself("host::stage_hold_a_lab_with_a_witness")
        .env("NIC2POD_TEST_WITNESS", path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let agent = agent_of(&mut child);
    let ends = |state: &State| state.links.iter().filter(|l| l.name.starts_with("witness")).count();
    assert_eq!(ends(&witness.state().unwrap()), 8, "a witness per host");
    // A process that has ended and not been waited for yet has an entry, but no namespaces.
    let alive = || std::fs::metadata(format!("/proc/{agent}/ns/net")).is_ok();
    assert!(alive());
    child.kill().unwrap();
    child.wait().unwrap();
    let killed = Instant::now();
    witness.wait_for(Duration::from_secs(20), move |state| ends(state) == 0).unwrap();
    eprintln!("all namespaces gone {} ms after SIGKILL", killed.elapsed().as_millis());
    // Its namespace was among them, which a process in it would have kept.
    assert!(!alive(), "the agent is still there");
}

/// Waits until the child has its lab and tells the process id of an agent in it.
fn agent_of(child: &mut Child) -> u32 {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    let line = lines.find_map(|line| line.split_once("agent ").map(|(_, id)| id.to_owned()));
    line.expect("the child says when it is up").parse().unwrap()
}

#[test]
#[ignore = "run by a_lab_whose_process_is_killed_leaves_no_process_and_no_namespace"]
fn stage_hold_a_lab_with_a_witness() {
    let (Ok(_), Ok(path)) = (std::env::var(STAGE), std::env::var("NIC2POD_TEST_WITNESS")) else {
        return;
    };
    let witness = Netns::enter("witness", File::open(path).unwrap().into()).unwrap();
    let lab = NetnsLab::up(&Topology::default(), CniKind::Vxlan).unwrap();
    for (index, host) in (0..).zip(lab.hosts().chain([lab.fabric()])) {
        witness_of(&witness, index, host);
    }
    let agent = Agent::start(&lab.pods()[0].netns, Path::new("sleep"), &["3600"]).unwrap();
    println!("agent {}", agent.pid());
    // Until killed; the end of the test that started it would end this one too.
    let mut forever = String::new();
    std::io::stdin().read_line(&mut forever).unwrap();
    std::thread::park_timeout(Duration::from_secs(60));
}

fn witness_of(witness: &Netns, index: u8, host: &Netns) {
    let peer = Peer {
        name: format!("witness{index}"),
        netns: witness.reference(),
        mac: Mac([2, 0, 0, 0, 1, index]),
    };
    let link = NewLink {
        name: "witness".to_owned(),
        kind: LinkKind::Veth(peer),
        mac: None,
        mtu: 1500,
        bridge: None,
    };
    host.apply(vec![Change::AddLink(link)]).unwrap();
}

/// In a process of its own, where nothing has been made yet that a library keeps for good, and so
/// keeps the namespace it was made in.
#[test]
fn the_first_lab_of_a_process_goes_like_any_other() {
    succeeds(myself("host::stage_first_lab"));
}

#[test]
#[ignore = "run by the_first_lab_of_a_process_goes_like_any_other"]
fn stage_first_lab() {
    match NetnsLab::up(&Topology::default(), CniKind::Ptp) {
        Ok(lab) => crate::down(lab),
        Err(error) => assert!(!may_make_namespaces(), "{error}"),
    }
}

/// In two steps: another user first, in a program that was executed as that user, because the
/// kernel lets nobody write the maps of a process that has changed its user since; then the user
/// namespace, before the program that needs it has threads.
#[test]
fn an_unprivileged_user_has_the_same_lab() {
    let mut command = myself("host::stage_as_another_user");
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    succeeds(command);
}

#[test]
#[ignore = "run by an_unprivileged_user_has_the_same_lab"]
fn stage_as_another_user() {
    if std::env::var(STAGE).is_err() {
        return;
    }
    let mut command = myself("host::stage_in_a_user_namespace");
    #[expect(unsafe_code, reason = "the process has to be its only thread, and a test has more")]
    // SAFETY: the closure runs in the forked child, which has one thread. It allocates and reads
    // files: glibc makes its allocator usable there, and no other lock it takes can be held.
    unsafe {
        command.pre_exec(|| match enter_private_namespaces() {
            Ok(Privilege::UserNamespace) => Ok(()),
            Ok(Privilege::Root) => Err(std::io::ErrorKind::InvalidInput.into()),
            Err(unavailable) => {
                eprintln!("{unavailable}");
                Err(std::io::ErrorKind::PermissionDenied.into())
            }
        });
    }
    succeeds(command);
}

#[test]
#[ignore = "run by an_unprivileged_user_has_the_same_lab"]
fn stage_in_a_user_namespace() {
    if std::env::var(STAGE).is_err() {
        return;
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let map: Vec<_> = map.split_whitespace().collect();
    assert!(map[0] == "0" && map[1] != "0" && map[2] == "1", "{map:?}");
    for &cni in CniKind::OWN {
        crate::traffic::conforms(cni);
    }
    crate::process::xtables_locks_are_separate();
}

fn succeeds(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    eprintln!("{err}");
    assert!(output.status.success(), "{out}");
    assert!(out.contains("1 passed"), "{out}");
}
