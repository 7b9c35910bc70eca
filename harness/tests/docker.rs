// SPDX-License-Identifier: Apache-2.0
//! Ring 3: Docker's Engine, the agents' image, hosts outside a cluster, and kind's clusters.
//!
//! Needs an Engine; clusters need the image that `NIC2POD_KIND_IMAGE` names and kind (`KIND` or
//! PATH). `NIC2POD_AGENTS` names a folder with static agents. What is missing is printed and its tests are skipped.
#![expect(clippy::unwrap_used, reason = "a test's functions fail by panicking, as the test does")]
#![expect(clippy::print_stderr, reason = "skips and durations are for whoever runs the tests")]

use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use harness::Cancel;
use harness::docker::kind::{self, ClusterConfig, Creation, Kind, KindError, KubeProxy};
use harness::docker::{AgentsImage, DockerError, Engine, Host, HostSpec, RUN_LABEL};
use workloads::protocol::{
    Arrival, Connection, LoadCommand, LoadSpec, PhaseReport, Protocol, Sources,
};

/// Bounds a test that would hang.
const PATIENCE: Duration = Duration::from_secs(120);

fn engine() -> Option<Engine> {
    match Engine::connect() {
        Ok(engine) => Some(engine),
        Err(missing) => {
            eprintln!("SKIP {missing}");
            None
        }
    }
}

/// What clusters need: kind, and an image of their nodes that is there already.
fn for_clusters(engine: &Engine) -> Option<(Kind, String)> {
    let kind = Kind::find(None).inspect_err(|missing| eprintln!("SKIP {missing}")).ok()?;
    let Ok(image) = std::env::var("NIC2POD_KIND_IMAGE") else {
        eprintln!("SKIP NIC2POD_KIND_IMAGE names no node image");
        return None;
    };
    if !engine.has_image(&image).unwrap() {
        eprintln!("SKIP Docker has no image {image}");
        return None;
    }
    Some((kind, image))
}

/// The image, of the static agents in the folder `NIC2POD_AGENTS`; else of some that are built here,
/// once, as xtask builds them but without optimisation.
fn image() -> AgentsImage {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        if let Some(folder) = std::env::var_os("NIC2POD_AGENTS") {
            return folder.into();
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let host = Command::new(env!("CARGO")).arg("-vV").output().unwrap().stdout;
        let host = String::from_utf8(host).unwrap();
        let triple = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned();
        let target = root.join("target/static");
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "workloads", "--bins", "--target", &triple])
            .arg("--target-dir")
            .arg(&target)
            .current_dir(root)
            .env("RUSTFLAGS", "-Ctarget-feature=+crt-static")
            .status()
            .unwrap();
        assert!(status.success());
        target.join(triple).join("debug")
    });
    AgentsImage::of_files(&folder.join("load"), &folder.join("target"), None).unwrap()
}

/// A name that only this run of this test uses.
fn name(what: &str) -> String {
    format!("nic2pod-test-{}-{what}", std::process::id())
}

fn host_spec(name: &str) -> HostSpec {
    HostSpec {
        name: name.to_owned(),
        network: "bridge".to_owned(),
        run_id: name.to_owned(),
        patience: PATIENCE,
    }
}

#[test]
fn a_dead_daemon_is_one_sentence_that_names_its_socket() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let dead = Engine::connect_at(&socket).unwrap_err();
    assert_eq!(dead.found, format!("nobody answers at {}", socket.display()));
    assert!(!dead.to_string().contains('\n'), "{dead}");
    let missing = Engine::connect_at(&folder.path().join("none.sock")).unwrap_err();
    assert!(missing.found.starts_with("no socket "), "{missing}");
}

#[test]
fn what_docker_does_not_have_is_not_found() {
    let Some(engine) = engine() else { return };
    let error = engine.inspect(&name("nothing")).unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert!(engine.network(&name("nothing")).unwrap_err().is_not_found());
    assert!(!engine.has_image("nic2pod/agents:none").unwrap());
    engine.remove(&name("nothing"), true).unwrap();
    assert_eq!(engine.network("bridge").unwrap().prefix, 16);
}

#[test]
fn a_host_is_ready_answers_at_its_socket_and_leaves_nothing() {
    let Some(engine) = engine() else { return };
    let (image, name) = (image(), name("host"));
    let loaded = Instant::now();
    image.load_into_engine(&engine).unwrap();
    assert!(!image.load_into_engine(&engine).unwrap(), "it is there already");
    let started = Instant::now();
    let host = Host::up(&engine, &image, host_spec(&name)).unwrap();
    eprintln!(
        "load_image_ms {} host_up_ms {}",
        (started - loaded).as_millis(),
        started.elapsed().as_millis()
    );
    let seen = engine.inspect(&name).unwrap();
    assert_eq!((seen.id.as_str(), seen.pid), (host.id(), Some(host.pid())));
    assert_eq!(seen.networks["bridge"].ip, host.ip());
    assert_eq!(engine.by_label(&format!("{RUN_LABEL}={name}")).unwrap(), [seen]);
    assert!(engine.logs_tail(host.id(), 5).unwrap().contains(workloads::READY));
    let taken = Host::up(&engine, &image, host_spec(&name)).unwrap_err();
    assert!(matches!(taken, DockerError::Taken { .. }), "{taken}");

    // Two talks, one after the other; nobody listens at port 1 of the host itself.
    for _ in 0..2 {
        let mut agent = host.agent(PATIENCE).unwrap();
        agent.tell(&spec(SocketAddr::new(host.ip(), 1), host.ip())).unwrap();
        agent.tell(&one_request()).unwrap();
        let report: PhaseReport = agent.hear(PATIENCE).unwrap();
        assert_eq!(report.errors.keys().collect::<Vec<_>>(), ["connect_refused"]);
        agent.down().unwrap();
    }
    host.down().unwrap();
    assert_eq!(engine.by_label(&format!("{RUN_LABEL}={name}")).unwrap(), []);
}

#[test]
fn a_host_that_cannot_be_is_refused_and_leaves_nothing() {
    let Some(engine) = engine() else { return };
    let (image, name) = (image(), name("refused"));
    let nowhere = HostSpec { network: format!("{name}-net"), ..host_spec(&name) };
    assert!(Host::up(&engine, &image, nowhere).unwrap_err().is_not_found());
    // An image of programs that are static, but not agents: the kernel runs a header alone and
    // kills it.
    let broken = AgentsImage::new(&header(), &header()).unwrap();
    let absent = Host::up(&engine, &broken, host_spec(&name)).unwrap_err();
    assert!(absent.to_string().contains("image of the agents"), "{absent}");
    broken.load_into_engine(&engine).unwrap();
    let error = Host::up(&engine, &broken, host_spec(&name)).unwrap_err();
    assert!(matches!(error, DockerError::Host { .. }), "{error}");
    assert_eq!(engine.by_label(&format!("{RUN_LABEL}={name}")).unwrap(), []);
    engine.remove_image(&broken.reference()).unwrap();
    assert!(!engine.has_image(&broken.reference()).unwrap());
}

#[test]
fn a_dropped_host_is_removed() {
    let Some(engine) = engine() else { return };
    let (image, name) = (image(), name("dropped"));
    image.load_into_engine(&engine).unwrap();
    drop(Host::up(&engine, &image, host_spec(&name)).unwrap());
    assert!(engine.inspect(&name).unwrap_err().is_not_found());
}

#[test]
fn a_cluster_is_made_takes_the_image_and_is_removed() {
    let Some(engine) = engine() else { return };
    let Some((kind, image_of_nodes)) = for_clusters(&engine) else { return };
    let config = cluster(&name("one"));
    let started = Instant::now();
    let mut lines = 0;
    let cluster = kind
        .create(
            &engine,
            &config,
            creation(&image_of_nodes, &mut |_| lines += 1, &Cancel::default()),
        )
        .unwrap();
    let created = started.elapsed();
    assert!(lines > 0, "kind says what it does");
    assert_eq!(cluster.nodes.len(), 1);
    assert!(kind::list(&engine).unwrap().contains(&config.name));
    assert_eq!(kind::find(&engine, &config.name).unwrap(), cluster);
    let node = cluster.control_plane();
    let admin = cluster.admin_kubeconfig(&engine).unwrap();
    assert!(admin.contains("client-certificate-data"), "{admin}");
    let here = kind.kubeconfig(&engine, &config.name).unwrap();
    assert!(here.contains("server: https://127.0.0.1:"), "{here}");

    let agents = image();
    let importing = Instant::now();
    assert!(agents.load_into_node(&engine, &node.id).unwrap());
    let imported = importing.elapsed();
    assert!(!agents.load_into_node(&engine, &node.id).unwrap(), "it is there already");

    let said =
        engine.exec(&node.id, &["sh", "-c", "cat; echo no >&2; exit 3"], b"yes", PATIENCE).unwrap();
    assert_eq!((said.code, &said.stdout[..], &said.stderr[..]), (3, &b"yes"[..], &b"no\n"[..]));
    let endless = engine.exec(&node.id, &["yes"], &[], PATIENCE).unwrap_err();
    assert!(matches!(endless, DockerError::TooMuch { .. }), "{endless}");
    let taken =
        kind.create(&engine, &config, creation(&image_of_nodes, &mut |_| {}, &Cancel::default()));
    assert!(matches!(taken, Err(KindError::Taken { .. })));

    let removing = Instant::now();
    assert_eq!(kind::delete(&engine, &config.name).unwrap(), 1);
    eprintln!(
        "cluster_create_ms {} import_ms {} delete_ms {}",
        created.as_millis(),
        imported.as_millis(),
        removing.elapsed().as_millis()
    );
    assert!(!kind::list(&engine).unwrap().contains(&config.name));
}

#[test]
fn a_cluster_that_is_stopped_or_late_leaves_nothing() {
    let Some(engine) = engine() else { return };
    let Some((kind, image)) = for_clusters(&engine) else { return };
    let config = cluster(&name("half"));
    let cancel = Cancel::default();
    // Stopped once the node is being made.
    let mut stop = |line: &str| {
        if line.contains("Writing configuration") {
            cancel.request();
        }
    };
    let stopped = kind.create(&engine, &config, creation(&image, &mut stop, &cancel)).unwrap_err();
    assert!(matches!(&stopped, KindError::Stopped { left, .. } if left.is_empty()), "{stopped}");
    assert!(!kind::list(&engine).unwrap().contains(&config.name));
    let (mut quiet, go_on) = (|_: &str| {}, Cancel::default());
    let soon =
        Creation { deadline: Duration::from_secs(8), ..creation(&image, &mut quiet, &go_on) };
    let late = kind.create(&engine, &config, soon).unwrap_err();
    assert!(
        matches!(&late, KindError::Late { last_words, .. } if !last_words.kind.is_empty()),
        "{late}"
    );
    assert!(!kind::list(&engine).unwrap().contains(&config.name));
}

#[test]
fn a_missing_node_image_is_said_before_anything_is_made() {
    let Some(engine) = engine() else { return };
    let Ok(kind) = Kind::find(None).inspect_err(|missing| eprintln!("SKIP {missing}")) else {
        return;
    };
    let config = cluster(&name("imageless"));
    let mut progress = |line: &str| panic!("{line}");
    let error = kind
        .create(
            &engine,
            &config,
            creation("nic2pod/no-such-node:1", &mut progress, &Cancel::default()),
        )
        .unwrap_err();
    assert!(matches!(error, KindError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("nic2pod/no-such-node:1"), "{error}");
}

fn cluster(name: &str) -> ClusterConfig {
    ClusterConfig {
        name: name.to_owned(),
        nodes: 1,
        kube_proxy: KubeProxy::Iptables,
        default_cni: false,
    }
}

fn creation<'a>(
    image: &'a str,
    progress: &'a mut dyn FnMut(&str),
    cancel: &'a Cancel,
) -> Creation<'a> {
    Creation { image, progress, deadline: Duration::from_secs(300), cancel }
}

fn spec(target: SocketAddr, source: std::net::IpAddr) -> LoadSpec {
    LoadSpec {
        host: None,
        request_ids: false,
        resolve: None,
        target,
        arrival: Arrival::Closed { connections: 1 },
        connection: Connection::Newconn,
        protocol: Protocol::Http1,
        tls: None,
        request_bytes: 0,
        response_bytes: 0,
        server_work_ns: 0,
        sources: Sources { addresses: vec![source], port_first: 20_000, port_last: 20_100 },
        timeout_ms: 10_000,
        seed: 1,
    }
}

fn one_request() -> LoadCommand {
    LoadCommand::Run { duration_ms: 10_000, max_requests: Some(1), sample_every: 0, max_samples: 0 }
}

/// The header of a static x86-64 program without segments.
fn header() -> Vec<u8> {
    let mut header = vec![0; 64];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (header[16], header[18], header[20], header[52], header[54]) = (2, 62, 1, 64, 56);
    header
}
