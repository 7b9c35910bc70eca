// SPDX-License-Identifier: Apache-2.0
//! Pods that plugins of others attach: Debian's, and scripts that fail in every way a plugin can.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::cni::exec::{FOLDERS, Plugins};
use harness::lab::netns::{Attachment, NetnsError, NetnsLab, Topology};
use harness::net::{Netns, Tool};
use harness::plan::{CniKind, Conflist};
use tempfile::TempDir;

use crate::traffic::exchange;
use crate::{down, may_make_namespaces};

/// What plugins keep their state in unless told otherwise.
const MACHINES_STATE: [&str; 2] = ["/var/lib/cni", "/run/cni"];

fn topology() -> Topology {
    Topology { pod_extra_addresses: 0, ..Topology::default() }
}

fn example(name: &str) -> Conflist {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/cni");
    Conflist::read(&folder.join(name)).unwrap()
}

/// A lab by a list's plugins, and where they keep their state; `None`, loudly, where this machine has
/// no namespaces or no such plugins.
fn lab(list: &Conflist, topology: &Topology) -> Option<(NetnsLab, TempDir)> {
    if !may_make_namespaces() {
        return None;
    }
    match Plugins::find(list, &Netns::create("question").unwrap()) {
        Err(unavailable) => {
            eprintln!("SKIP {unavailable}");
            None
        }
        Ok(plugins) => {
            let scratch = tempfile::tempdir().unwrap();
            let attachment =
                Attachment { list: list.clone(), plugins, scratch: scratch.path().to_owned() };
            Some((NetnsLab::up_by_plugins(topology, attachment).unwrap(), scratch))
        }
    }
}

/// Names and times of everything in a folder, for telling whether it was touched.
fn listing(folder: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            all.push(format!("{} {modified:?}", entry.path().display()));
            folders.extend(entry.file_type().is_ok_and(|kind| kind.is_dir()).then(|| entry.path()));
        }
    }
    all.sort();
    all
}

fn reaches_everyone(lab: &NetnsLab) {
    let [first, neighbour, remote, _] = lab.pods() else { panic!("four pods") };
    for pod in lab.pods() {
        exchange(&lab.client().netns, None, &pod.netns, pod.address, 1000);
    }
    for to in [neighbour, remote] {
        exchange(&first.netns, None, &to.netns, to.address, 1000);
        exchange(&to.netns, None, &first.netns, first.address, 1000);
        exchange(&lab.nodes()[0].netns, None, &to.netns, to.address, 1000);
    }
}

/// Attached, proved, of use, and detached so that nothing is left on pods, nodes and machine.
fn conforms(list: &str, walked: CniKind) {
    let list = example(list);
    let before = MACHINES_STATE.map(listing);
    let Some((mut lab, scratch)) = lab(&list, &topology()) else { return };
    assert_eq!((lab.cni(), lab.walked()), (CniKind::Exec, walked));
    let evidence = lab.prove().unwrap().join("\n");
    for pod in lab.pods() {
        let line = format!("{} has {}/24 on eth0", pod.name, pod.address);
        assert!(evidence.contains(&line), "{line} in {evidence}");
        assert_eq!(pod.veth.is_some(), walked != CniKind::Macvlan, "{}", pod.name);
    }
    assert!(evidence.contains(&list.sha256()), "{evidence}");
    let check = if list.has_check() { "CHECK of 4 pods found" } else { "CHECK was left out" };
    assert!(evidence.contains(check), "{evidence}");
    reaches_everyone(&lab);
    let leases = |scratch: &TempDir| {
        let text = listing(scratch.path().to_str().unwrap()).join("\n");
        text.matches("/10.244.").count()
    };
    assert_eq!(leases(&scratch), 4, "host-local keeps a file for each address");
    assert_eq!(lab.detach(), Vec::<String>::new());
    assert_eq!(leases(&scratch), 0, "addresses were not given back");
    for pod in lab.pods() {
        assert!(pod.netns.state().unwrap().link("eth0").is_none(), "{} has eth0 still", pod.name);
    }
    for node in lab.nodes() {
        let links = node.netns.state().unwrap().links;
        let left: Vec<_> = links.iter().filter(|link| link.name != "eth0").collect();
        assert!(
            left.iter()
                .all(|link| ["veth", "ifb"].iter().all(|kind| link.kind.as_deref() != Some(kind))),
            "{left:?}"
        );
    }
    assert_eq!(MACHINES_STATE.map(listing), before, "the machine's own state was touched");
    down(lab);
    drop(scratch);
}

#[test]
fn the_reference_bridge_attaches_pods_as_the_lab_needs_them() {
    conforms("bridge.conflist", CniKind::Bridge);
}

#[test]
fn the_reference_ptp_attaches_pods_as_the_lab_needs_them() {
    conforms("ptp.conflist", CniKind::Ptp);
}

#[test]
fn the_reference_macvlan_attaches_pods_beside_the_nodes_own_slave() {
    conforms("macvlan.conflist", CniKind::Macvlan);
}

#[test]
fn plugins_that_are_chained_get_each_others_results_and_are_undone_in_reverse() {
    conforms("chained.conflist", CniKind::Bridge);
}

#[test]
fn portmap_and_bandwidth_have_done_what_the_chain_asks_of_them() {
    let Some((lab, _scratch)) = lab(&example("chained.conflist"), &topology()) else { return };
    let node = &lab.nodes()[0];
    let rules = Tool::new("iptables-save").run_on(&node.netns).unwrap();
    assert!(rules.contains("--dport 18080 -j DNAT --to-destination 10.244.0.2:8080"), "{rules}");
    let veth = lab.pods()[0].veth.clone().unwrap();
    let queue = Tool::new("tc").args(["qdisc", "show", "dev", &veth]).run_on(&node.netns).unwrap();
    assert!(queue.contains("tbf") && queue.contains("rate 20Gbit"), "{queue}");
    down(lab);
}

/// The proof reads the kernel and asks the plugins: both notice what was changed behind their backs.
#[test]
fn a_pod_that_is_not_as_its_plugin_made_it_is_not_proved() {
    for (command, expected) in [
        ("ip address flush dev eth0", "ip address add 10.244.0.2/24 dev eth0"),
        ("ip route del default", "ip route add 0.0.0.0/0 via 10.244.0.1 dev eth0"),
        ("ip link set eth0 down", "eth0 up"),
    ] {
        let Some((lab, _scratch)) = lab(&example("bridge.conflist"), &topology()) else { return };
        Tool::new("sh").args(["-c", command]).run_on(&lab.pods()[0].netns).unwrap();
        match lab.prove() {
            Err(NetnsError::NotProved { host, expected: found, .. }) => {
                assert_eq!((&*host, &*found), ("pod1-1", expected));
            }
            other => panic!("{command}: {other:?}"),
        }
        down(lab);
    }
    // Addresses and routes are there; only the plugin knows that its port was to be of its bridge.
    let Some((lab, _scratch)) = lab(&example("bridge.conflist"), &topology()) else { return };
    let port = lab.pods()[0].veth.clone().unwrap();
    let free = format!("ip link set {port} nomaster; ip link del cni0");
    Tool::new("sh").args(["-c", &free]).run_on(&lab.nodes()[0].netns).unwrap();
    let error = lab.prove().unwrap_err().to_string();
    assert!(error.starts_with("plugin bridge failed at CHECK of pod1-1: code "), "{error}");
    drop(lab);
}

#[test]
fn a_pod_that_gets_another_address_than_planned_is_no_pod_of_the_lab() {
    let text = example("bridge.conflist").text().replace("{{pod_cidr}}", "10.99.0.0/16");
    let text = text.replace("{{gateway}}", "10.99.0.1");
    let list = Conflist::parse(&text).unwrap();
    if !may_make_namespaces() {
        return;
    }
    let Ok(plugins) = Plugins::find(&list, &Netns::create("question").unwrap()) else {
        eprintln!("SKIP no reference plugins");
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let by = Attachment { list, plugins, scratch: scratch.path().to_owned() };
    let error = NetnsLab::up_by_plugins(&topology(), by).unwrap_err().to_string();
    // host-local refuses an address that is not of its range.
    assert!(error.starts_with("plugin bridge failed at ADD of pod1-1: code "), "{error}");
    assert!(error.contains("10.244.0.2"), "{error}");
}

/// A folder with a script for a plugin. It speaks all versions; what it does else is `does`.
fn script(does: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mock");
    let text = format!(
        "#!/bin/sh\nif [ \"$CNI_COMMAND\" = VERSION ]; then\n\
         echo '{{\"cniVersion\": \"1.0.0\", \"supportedVersions\": [\"0.4.0\", \"1.0.0\"]}}'; exit 0; fi\n\
         [ -n \"$CNI_COMMAND\" ] || exit 0\n{does}\n"
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// What a lab says whose plugin is such a script; and how long it took to say so.
fn failure(does: &str, patience: Duration) -> Option<(String, Duration)> {
    if !may_make_namespaces() {
        return None;
    }
    let text = r#"{"cniVersion": "1.0.0", "name": "failing", "plugins": [{"type": "mock"}]}"#;
    let list = Conflist::parse(text).unwrap();
    let folder = script(does);
    let question = Netns::create("question").unwrap();
    let plugins = Plugins::find_in(vec![folder.path().to_owned()], &list, &question).unwrap();
    let plugins = plugins.within(patience);
    let scratch = tempfile::tempdir().unwrap();
    let by = Attachment { list, plugins, scratch: scratch.path().to_owned() };
    let started = Instant::now();
    let error = NetnsLab::up_by_plugins(&topology(), by).unwrap_err().to_string();
    Some((error, started.elapsed()))
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_plugin_that_fails_is_quoted_with_code_message_and_details() {
    let does = "echo '{\"cniVersion\": \"1.0.0\", \"code\": 7, \"msg\": \"no luck\", \"details\": \"none at all\"}'; exit 1";
    let Some((error, _)) = failure(does, LONG) else { return };
    assert_eq!(error, "plugin mock failed at ADD of pod1-1: code 7: no luck (none at all)");
}

#[test]
fn a_plugin_that_breaks_down_or_talks_nonsense_is_named_with_what_it_said() {
    let said = [
        "echo 'panic: oh' >&2; exit 2",
        "echo '{\"code\": \"seven\"}'; exit 1",
        "echo hello",
        "exit 0",
        "echo '{\"cniVersion\": \"0.4.0\"}'",
        "echo '{\"cniVersion\": \"1.0.0\"}'",
        "echo '{\"cniVersion\": \"1.0.0\", \"ips\": [{\"address\": \"10.244.0.9/24\"}]}'",
        "kill -9 $$",
    ];
    let mut all = Vec::new();
    for does in said {
        let Some((error, _)) = failure(does, LONG) else { return };
        all.push(error);
    }
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn a_plugin_that_hangs_is_killed_with_all_it_has_started() {
    let marker = tempfile::NamedTempFile::new().unwrap();
    let does = format!("sleep 3600 & echo $! > {}; wait", marker.path().display());
    let Some((error, took)) = failure(&does, Duration::from_millis(300)) else { return };
    assert!(
        error.contains("plugin mock") && error.contains("did not answer within 300 ms"),
        "{error}"
    );
    assert!(took < Duration::from_secs(15), "{took:?}");
    let started: u32 = fs::read_to_string(marker.path()).unwrap().trim().parse().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    let alive = || match fs::read_to_string(format!("/proc/{started}/stat")) {
        // What was killed and not reaped yet is a zombie.
        Ok(stat) => !stat.contains(") Z "),
        Err(_) => false,
    };
    while alive() {
        assert!(Instant::now() < deadline, "what the plugin started lives on");
        std::thread::yield_now();
    }
}

#[test]
fn a_plugin_that_floods_its_output_is_stopped() {
    let Some((error, _)) = failure("exec cat /dev/zero", LONG) else { return };
    assert!(error.contains("it wrote more than 262144 bytes"), "{error}");
}

/// What each call is told: the protocol's environment, and the result before as it was given.
#[test]
fn calls_are_made_as_the_protocol_says() {
    if !may_make_namespaces() {
        return;
    }
    let log = tempfile::NamedTempFile::new().unwrap();
    let does = format!(
        "exec 3>>{}\n\
         echo \"$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS $CNI_PATH\" >&3\n\
         config=$(cat); echo \"$config\" >&3\n\
         [ -e \"$CNI_NETNS\" ] || exit 9\n\
         if [ \"$CNI_COMMAND\" = ADD ]; then\n\
           ip link show eth0 >/dev/null || exit 8\n\
           nsenter --net=\"$CNI_NETNS\" ip link add eth0 type bridge || true\n\
           nsenter --net=\"$CNI_NETNS\" ip link set eth0 up\n\
           nsenter --net=\"$CNI_NETNS\" ip address add 10.244.0.2/24 dev eth0 2>/dev/null\n\
           echo '{{\"cniVersion\": \"1.0.0\", \"ips\": [{{\"address\": \"10.244.0.2/24\"}}], \"x\": 7}}'\n\
         fi",
        log.path().display()
    );
    let folder = script(&does);
    let text = r#"{"cniVersion": "1.0.0", "name": "n", "plugins": [
        {"type": "mock", "nth": 1, "capabilities": {"ips": true}}, {"type": "mock", "nth": 2, "cidr": "{{pod_cidr}}"}]}"#;
    let list = Conflist::parse(text).unwrap();
    let question = Netns::create("question").unwrap();
    let folders = vec![folder.path().to_owned()];
    let plugins = Plugins::find_in(folders, &list, &question).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let by = Attachment { list, plugins, scratch: scratch.path().to_owned() };
    let one = Topology { nodes: 1, pods_per_node: 1, ..topology() };
    let lab = NetnsLab::up_by_plugins(&one, by).unwrap();
    lab.prove().unwrap();
    assert_eq!(lab.walked(), CniKind::Exec);
    down(lab);
    let said = fs::read_to_string(log.path()).unwrap();
    insta::assert_snapshot!(said.replace(folder.path().to_str().unwrap(), "FOLDER"));
}

#[test]
fn a_program_that_is_missing_or_too_old_is_unavailable_with_the_package_to_install() {
    if !may_make_namespaces() {
        return;
    }
    let question = Netns::create("question").unwrap();
    let folder = script("exit 0");
    let find = |text: &str| {
        let list = Conflist::parse(text).unwrap();
        Plugins::find_in(vec![folder.path().to_owned()], &list, &question).unwrap_err()
    };
    let missing =
        find(r#"{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "weave-net"}]}"#);
    assert_eq!(missing.need, "the CNI plugin weave-net");
    assert!(missing.remedy.contains("apt-get install containernetworking-plugins"), "{missing}");
    let old = find(r#"{"cniVersion": "1.1.0", "name": "n", "plugins": [{"type": "mock"}]}"#);
    assert_eq!(old.need, "the CNI plugin mock that speaks version 1.1.0");
    assert_eq!(old.found, "one that speaks 0.4.0, 1.0.0");
    assert_eq!(FOLDERS, ["/opt/cni/bin", "/usr/lib/cni"]);
}
