// SPDX-License-Identifier: Apache-2.0
//! A cluster whose own DNS server answers. In the nodes' image a stand-in takes CoreDNS's place, which does not: here
//! a pod with CoreDNS's label has a real server in it, and the test tells it of Services as the API server would.

use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::net::{Agent, Netns};
use serde_json::{Value, json};
use workloads::protocol::{DnsReply, DnsService, DnsSpec};

use super::{GLANCE, STEP_MAX, cases, cluster, resolved, run_id, xtask};

const POD: &str = "own-dns";

/// Runs kubectl on a node that has the rights of an administrator.
fn kubectl(cluster: &str, arguments: &[&str], input: &str) -> Option<String> {
    let mut child = Command::new("docker")
        .args(["exec", "-i", &format!("{cluster}-control-plane"), "kubectl"])
        .args(["--kubeconfig", "/etc/kubernetes/admin.conf"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// Looks until there is something to see.
fn seen<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + STEP_MAX;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(GLANCE);
    }
}

/// The network namespace of a container of a node.
fn netns_of(container: &str) -> Netns {
    let process = seen("the container's process", || {
        fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).find(|path| {
            fs::read_to_string(path.join("cgroup")).is_ok_and(|groups| groups.contains(container))
        })
    });
    Netns::enter(POD, File::open(process.join("ns/net")).unwrap().into()).unwrap()
}

fn serve(pod: &Netns, at: IpAddr, services: &[(&str, &str, &str)]) -> Agent {
    let service = |(name, namespace, address): &(&str, &str, &str)| DnsService {
        name: (*name).to_owned(),
        namespace: (*namespace).to_owned(),
        addresses: vec![address.parse().unwrap()],
    };
    let spec = DnsSpec {
        listen: vec![SocketAddr::new(at, 53)],
        domain: "cluster.local".to_owned(),
        services: services.iter().map(service).collect(),
    };
    let program = Path::new(env!("CARGO_BIN_EXE_xtask"));
    let mut agent = Agent::start(pod, program, &["agent", "dns"]).unwrap();
    agent.tell(&spec).unwrap();
    let reply: DnsReply = agent.hear(Duration::from_secs(30)).unwrap();
    assert_eq!(reply, DnsReply::Ready);
    agent
}

#[test]
#[ignore = "a_cluster_that_exists_... runs it, and has one"]
fn are_served_by_the_clusters_own_server_once_that_has_heard_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let out = &dir.path().join("run");
    // The node of the pods that answer: kind's workers come first.
    let node = cluster::told(cluster::NODE);
    let cluster = node.strip_suffix("-control-plane").unwrap();
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": POD, "namespace": "kube-system", "labels": { "k8s-app": "kube-dns" },
        },
        "spec": {
            "nodeName": node,
            "containers": [{ "name": "main", "image": "k8s.gcr.io/pause:3.2" }],
        },
    });
    kubectl(cluster, &["apply", "-f", "-"], &pod.to_string()).expect("made");
    let ready = ["wait", "--for=condition=Ready", "-n", "kube-system", "pod", POD, "--timeout=60s"];
    kubectl(cluster, &ready, "").expect("ready");
    let status = kubectl(cluster, &["get", "-n", "kube-system", "pod", POD, "-o", "json"], "");
    let status: Value = serde_json::from_str(&status.unwrap()).unwrap();
    let address: IpAddr = status["status"]["podIP"].as_str().unwrap().parse().unwrap();
    let container = status["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    let netns = netns_of(container.split_once("://").unwrap().1);
    let api = ("kubernetes", "default", "10.96.0.1");
    let server = serve(&netns, address, &[api]);
    let mut running =
        xtask(&["bench", "--lab", "kind", "--mode", "iptables", "--cni", "ptp", "--out"])
            .arg(out)
            .args(["--route", "nodeport-remote", "--services", "1", "--workload", "dns-newconn"])
            .args(["--duration", "200ms", "--iterations", "1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
    seen("the run's manifest", || out.join("manifest.json").exists().then_some(()));
    let of_run = format!("nic2pod.dev/run={}", run_id(out));
    let web = seen("the run's Service", || {
        assert_eq!(running.try_wait().unwrap(), None, "the run waits for the name");
        let listed = kubectl(cluster, &["get", "services", "-A", "-l", &of_run, "-o", "json"], "")?;
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let mut services = listed["items"].as_array().unwrap().iter();
        services.find(|service| service["metadata"]["name"] == "web").cloned()
    });
    let namespace = web["metadata"]["namespace"].as_str().unwrap();
    let service = web["spec"]["clusterIP"].as_str().unwrap();
    server.down().unwrap();
    let server = serve(&netns, address, &[api, ("web", namespace, service)]);
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success());
    let cases = cases(out);
    let [case] = &cases[..] else { panic!("{cases:#?}") };
    resolved(case, "10.112.0.10:53", namespace);
    let told = format!("names are served by the cluster's own {POD} on {node}");
    assert!(case["notes"].to_string().contains(&told), "{case:#}");
    server.down().unwrap();
    let delete = ["delete", "-n", "kube-system", "pod", POD, "--now"];
    kubectl(cluster, &delete, "").expect("deleted");
}
