// SPDX-License-Identifier: Apache-2.0
//! The rings, from what needs nothing to what needs a browser.

use super::kube_proxy;
use super::ring::{Ring, Step};
use crate::compare::commit::Commit;
use crate::exit::Exit;
use crate::packages;

/// All rings in order. Tests are always built for the whole workspace: of a part of it, cargo would build
/// the dependencies once more, with the features that this part needs.
pub(super) fn all() -> Vec<Ring> {
    let mut rings = without_features();
    // Where clusters can be had, everything is built with their part: once, and not twice.
    if clusters().is_none() {
        rings.iter_mut().flat_map(|ring| &mut ring.commands).for_each(Step::with_clusters);
        // Their image has the program that the tests of a kube-proxy run.
        let image = std::env::var("NIC2POD_KIND_IMAGE").unwrap_or_default();
        if let Some(program) = kube_proxy::find(&image) {
            let program = program.to_string_lossy().into_owned();
            let ring = rings.iter_mut().filter(|ring| ring.about == KUBE_PROXY);
            ring.flat_map(|ring| &mut ring.commands).for_each(|step| {
                step.environment.push((kube_proxy::VARIABLE, program.clone()));
            });
        }
    }
    rings
}

/// What the ring of a kube-proxy program is about.
const KUBE_PROXY: &str = "a real kube-proxy on namespaces, in place of our rules";

fn without_features() -> Vec<Ring> {
    vec![
        Ring {
            name: "house",
            about: "formatting, lints, documentation, BPF objects",
            minutes: 6,
            missing: None,
            commands: vec![
                Step::new("cargo fmt --all --check"),
                Step::new("cargo clippy --quiet --workspace --all-targets -- -D warnings"),
                Step::new("cargo doc --quiet --workspace --no-deps --document-private-items")
                    .env("RUSTDOCFLAGS", "-D warnings"),
                Step::own(&["bpf", "--check"]),
            ],
        },
        Ring {
            name: "0",
            about: "pure: units, snapshots, properties; no root",
            minutes: 5,
            missing: None,
            commands: vec![Step::new(
                "cargo test --workspace --lib --bins --test loopback --test report",
            )],
        },
        Ring {
            name: "1",
            about: "the whole pipeline on the fake lab; no root",
            minutes: 2,
            missing: None,
            commands: vec![Step::new(
                "cargo test --workspace --test pipeline --test cli --test judge --test kernel",
            )],
        },
        Ring {
            name: "2",
            about: "network namespaces: CNIs, proxy modes, taps, bench end to end",
            minutes: 16,
            missing: namespaces(),
            commands: vec![
                Step::new(
                    "cargo test --no-fail-fast --workspace --test lab --test proxy_modes --test nftables \
                 --test conntrack --test capture --test first_packet --test watch --test probe -- \
                 --test-threads=4",
                ),
                Step::new(
                    "cargo test --workspace --test bench --test trace --test tls --test dns --test plugins --test ingress --test ipv6 --test protocols -- --test-threads=4",
                ),
            ],
        },
        Ring {
            name: "3",
            about: "kernels of our own: guests of User-Mode Linux, and ring 2 in one, unprivileged",
            minutes: 13,
            missing: uml(),
            commands: vec![
                Step::new("cargo test --workspace --test guest"),
                Step::new(
                    // A guest of two processors keeps one of this machine's busy: half its time it waits.
                    "cargo test --workspace --test uml --test wire -- --nocapture --test-threads=4",
                ),
                // Ten thousand Services take a guest minutes; they are ring 2's.
                in_uml(&[
                    "--test=lab,proxy_modes,nftables,conntrack,watch",
                    "--",
                    "--skip=thousand",
                    "--skip=kube_proxy::",
                ]),
                // Linux 7.2 for ARCH=um damages its memory in receive rings of packet sockets at
                // times (`Bad page map`, `scheduling while atomic`): what opens them is left out.
                in_uml(&["--test=capture", "--", "probes::", "--skip=packet_sockets"]),
                in_uml(&["--test=bench", "--", "ipvlan"]),
            ],
        },
        Ring {
            name: "3",
            about: "kernels of distributions: guests in QEMU, ipvs in them",
            minutes: 3,
            missing: qemu(),
            commands: vec![
                Step::new("cargo test --workspace --lib kernel::qemu -- --nocapture"),
                Step::new("cargo test --workspace --test qemu -- --nocapture --test-threads=1"),
            ],
        },
        Ring {
            name: "3",
            about: KUBE_PROXY,
            minutes: 7,
            missing: a_kube_proxy(),
            commands: with_a_kube_proxy(),
        },
        Ring {
            name: "3",
            about: "kind clusters in Docker: a real kube-proxy on every route",
            minutes: 8,
            missing: clusters(),
            commands: vec![Step::new(
                "cargo test --workspace --test kind -- --nocapture --test-threads=2 kube_proxys_rules \
                 a_load_balancer_stands",
            )],
        },
        Ring {
            name: "3",
            about: "the rest of kind clusters: CNIs, bad luck, a cluster that exists",
            minutes: 13,
            missing: clusters(),
            commands: vec![
                Step::new(
                    "cargo test --workspace --test kind -- --nocapture --test-threads=2 \
                     --skip=kube_proxys_rules --skip=a_load_balancer_stands",
                ),
                // With the agents that the tests before have built.
                Step::new("cargo test --workspace --test docker -- --test-threads=1")
                    .env("NIC2POD_AGENTS", agents()),
            ],
        },
        Ring {
            name: "4",
            about: "the report in a browser",
            minutes: 3,
            missing: browser(),
            commands: vec![Step::new("cargo test --workspace --test browser")],
        },
        Ring {
            name: "5",
            about: "hot paths against the commit before, by criterion and the gate",
            minutes: 11,
            missing: commit_before(),
            // What a test machine does beside it is worth tens of percent: a hot path that got half
            // as slow again is a regression here, less is for a quiet machine to find.
            commands: vec![
                Step::own(&[
                    "gate",
                    "--benches",
                    "--rev=HEAD~1",
                    "--rev=HEAD",
                    "--budget=2m",
                    "--minimum-effect=0.5",
                ])
                .confirmed(Exit::Regression as i32),
            ],
        },
    ]
}

/// On the host, and where there is a kernel with ip_vs, in a guest of it.
fn with_a_kube_proxy() -> Vec<Step> {
    let mut steps = vec![
        Step::new("cargo test --workspace --test proxy_modes kube_proxy:: -- --test-threads=1"),
        Step::new("cargo test --workspace --test kube_proxy -- --nocapture --test-threads=2"),
    ];
    if uml().is_none() {
        // What ip_vs has no part in is the same as on the host.
        let only = ["--test=proxy_modes", "--threads=1", "--", "in_mode_ipvs"];
        steps.push(in_uml(&only));
    }
    steps
}

/// Test programs of ring 2 in a guest each.
fn in_uml(arguments: &[&str]) -> Step {
    Step::own(&[&["agent", "test-in-uml"], arguments].concat())
}

fn namespaces() -> Option<String> {
    // Asked in a thread of its own: the answer is a namespace that goes with it.
    harness::net::Netns::create("question").err().map(|error| error.to_string())
}

/// The kernel comes from NIC2POD_UML, an executable `linux` built for ARCH=um.
fn uml() -> Option<String> {
    match std::env::var_os("NIC2POD_UML") {
        None => Some("NIC2POD_UML does not name a User-Mode Linux executable".to_owned()),
        Some(path) if !std::path::Path::new(&path).is_file() => {
            Some(format!("NIC2POD_UML={} is not a file", path.display()))
        }
        Some(_) => None,
    }
}

/// The kernel comes from NIC2POD_QEMU_KERNEL, a distribution's `vmlinuz` with its modules in
/// `../lib/modules`.
fn qemu() -> Option<String> {
    match std::env::var_os("NIC2POD_QEMU_KERNEL") {
        None => Some("NIC2POD_QEMU_KERNEL does not name a distribution's kernel".to_owned()),
        Some(path) if !std::path::Path::new(&path).is_file() => {
            Some(format!("NIC2POD_QEMU_KERNEL={} is not a file", path.display()))
        }
        Some(_) => packages::find("qemu-system-x86_64")
            .is_none()
            .then(|| "qemu-system-x86_64 is not installed (package qemu-system-x86)".to_owned()),
    }
}

/// Docker is asked for its version; the image of the nodes comes from NIC2POD_KIND_IMAGE.
pub(super) fn clusters() -> Option<String> {
    let image = std::env::var("NIC2POD_KIND_IMAGE").unwrap_or_default();
    if image.is_empty() {
        return Some("NIC2POD_KIND_IMAGE does not name an image of kind's nodes".to_owned());
    }
    if std::env::var_os("KIND").is_none() && packages::find("kind").is_none() {
        return Some("kind is not in PATH, and KIND does not name it".to_owned());
    }
    if !nix::unistd::geteuid().is_root() {
        return Some("nodes are entered, which takes root".to_owned());
    }
    let docker = |arguments: &[&str]| {
        let output = std::process::Command::new("docker").args(arguments).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !docker(&["version"]) {
        return Some("no Docker Engine answers".to_owned());
    }
    (!docker(&["image", "inspect", &image])).then(|| format!("Docker has no image {image}"))
}

/// The program comes from NIC2POD_KUBE_PROXY, or out of the image of kind's nodes.
fn a_kube_proxy() -> Option<String> {
    namespaces().or_else(|| {
        let named = std::env::var_os(kube_proxy::VARIABLE).is_some_and(|path| !path.is_empty());
        let without =
            "NIC2POD_KUBE_PROXY does not name a kube-proxy, and there is no image to take one from";
        if named {
            return None;
        }
        let in_image = || {
            let image = std::env::var("NIC2POD_KIND_IMAGE").unwrap_or_default();
            kube_proxy::find(&image).is_none().then(|| format!("{image} gives none out"))
        };
        clusters().or_else(in_image).map(|reason| format!("{without}: {reason}"))
    })
}

/// A clone without history has nothing to compare with.
fn commit_before() -> Option<String> {
    Commit::find("HEAD~1").err().map(|error| error.to_string())
}

/// Where static agents are built.
fn agents() -> String {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = crate::root::workspace().join("target/static").join(triple).join("release");
    folder.to_string_lossy().into_owned()
}

fn browser() -> Option<String> {
    packages::find("chromium").is_none().then(|| "chromium is not installed".to_owned())
}
