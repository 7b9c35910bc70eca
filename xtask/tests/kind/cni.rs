// SPDX-License-Identifier: Apache-2.0
//! CNIs of others: given as files, in the image of the nodes, and not to be had.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::plan::CniKind;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{bench, engine, left, measured_whole, of, run_id, xtask};

const MANIFEST: &str = include_str!("wire.yml");
/// What the image is called that comes in an archive: no registry has it.
const ARCHIVED: &str = "nic2pod.invalid/wire:1";

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "docker {}: {said}", arguments.join(" "));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn node_image() -> String {
    std::env::var("NIC2POD_KIND_IMAGE").unwrap()
}

/// Image of kube-proxy in the nodes, which has a shell; its tag is the nodes'.
fn kube_proxy() -> String {
    let image = node_image();
    let tag = image.rsplit_once(':').unwrap().1;
    format!("k8s.gcr.io/kube-proxy:{tag}")
}

fn manifest(folder: &Path, image: &str) -> (PathBuf, String) {
    let (path, text) = (folder.join("wire.yml"), MANIFEST.replace("IMAGE", image));
    fs::write(&path, &text).unwrap();
    let digest = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    (path, digest)
}

const ROUTES: &str =
    "direct-remote,clusterip-local,clusterip-remote,nodeport-local,nodeport-remote,lbip-remote";

fn all_measured(cases: &[Value], cni: &str) {
    let measured: Vec<_> = of(cases, "cni", cni).collect();
    assert_eq!(measured.len(), 6, "{cni}: {cases:#?}");
    for case in measured {
        measured_whole(case);
        let stages = case["stages"].to_string();
        assert!(stages.contains("masq+egress+cni"), "what is not known is one stage: {stages}");
        assert!(!stages.contains("\"proxy\""), "{stages}");
    }
}

#[test]
fn a_cni_given_as_a_manifest_and_an_archive_carries_every_route() {
    let dir = tempfile::tempdir().unwrap();
    docker(&["tag", &kube_proxy(), ARCHIVED]);
    let archive = dir.path().join("wire.tar");
    docker(&["save", "--output", archive.to_str().unwrap(), ARCHIVED]);
    docker(&["rmi", ARCHIVED]);
    let (file, digest) = manifest(dir.path(), ARCHIVED);
    let profile = dir.path().join("profile.toml");
    fs::write(
        &profile,
        format!(
            "[lab.cni.flannel]\nmanifest = {file:?}\nsha256 = \"{digest}\"\nimages = [{archive:?}]\n"
        ),
    )
    .unwrap();
    let out = dir.path().join("run");
    let (output, cases) = bench(
        &out,
        &[
            "--profile",
            profile.to_str().unwrap(),
            "--lab",
            "netns,kind",
            "--kernel",
            "host",
            "--mode",
            "iptables",
            "--cni",
            "flannel,calico",
            "--route",
            ROUTES,
            "--services",
            "1",
            "--workload",
            "newconn",
        ],
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (kind, netns): (Vec<Value>, Vec<Value>) =
        cases.into_iter().partition(|case| case["lab"] == "kind");
    all_measured(&kind, "flannel");
    let notes = kind[0]["notes"].to_string();
    assert!(notes.contains(&digest), "what was applied is in the record: {notes}");
    for case in of(&kind, "cni", "calico") {
        assert_eq!(case["status"], "skipped", "{case:#}");
        assert!(case["reason"]["try"].to_string().contains("--cni-manifest calico"), "{case:#}");
    }
    for case in &netns {
        assert_eq!(case["status"], "skipped", "{case:#}");
        assert_eq!(case["reason"]["try"], "--lab kind", "{case:#}");
    }
    assert_eq!(left(&engine(), &run_id(&out)), Vec::<String>::new());
}

#[test]
fn a_manifest_that_is_another_than_the_profile_says_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (file, _) = manifest(dir.path(), &kube_proxy());
    let profile = dir.path().join("profile.toml");
    let other = "0".repeat(64);
    fs::write(&profile, format!("[lab.cni.cilium]\nmanifest = {file:?}\nsha256 = \"{other}\"\n"))
        .unwrap();
    let refused = xtask(&["bench", "--lab", "kind", "--mode", "iptables", "--cni", "cilium"])
        .args(["--profile", profile.to_str().unwrap(), "--out"])
        .arg(dir.path().join("run"))
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("lab.cni.cilium.sha256") && said.contains(&other), "{said}");
}

/// An image of nodes that has a CNI where kind's own images have theirs.
struct NodeImage(String);

impl NodeImage {
    fn with(folder: &Path, image: &str) -> Self {
        let (file, _) = manifest(folder, image);
        let container = docker(&["create", &node_image()]);
        let place = format!("{container}:/kind/manifests/default-cni.yaml");
        docker(&["cp", file.to_str().unwrap(), &place]);
        let tag = node_image().rsplit_once(':').unwrap().1.to_owned();
        let made = Self(format!("nic2pod-test/node-with-cni-{}:{tag}", std::process::id()));
        docker(&["commit", &container, &made.0]);
        docker(&["rm", &container]);
        made
    }
}

impl Drop for NodeImage {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", &self.0]).output();
    }
}

#[test]
fn kindnet_is_what_the_nodes_image_has_or_a_skip() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, image: &str| {
        let out = dir.path().join(name);
        let lab = ["--lab", "kind", "--mode", "iptables", "--cni", CniKind::Kindnet.word()];
        let load = ["--route", ROUTES, "--services", "1", "--workload", "newconn"];
        let (output, cases) =
            bench(&out, &[&lab[..], &load[..], &["--node-image", image][..]].concat());
        (output.status.code(), String::from_utf8(output.stderr).unwrap(), cases)
    };
    // The image of the tests has none, or one without its image.
    let (code, said, cases) = run("without", &node_image());
    if cases[0]["status"] != "measured" {
        assert_eq!(code, Some(4), "{said}");
        assert!(cases[0]["reason"]["need"].to_string().contains("kindnet"), "{:#}", cases[0]);
    }
    let with = NodeImage::with(dir.path(), &kube_proxy());
    let (code, said, cases) = run("with", &with.0);
    assert_eq!(code, Some(0), "{said}");
    all_measured(&cases, "kindnet");
    assert!(cases[0]["notes"].to_string().contains(&with.0), "{:#}", cases[0]);
    drop(with);
    let missing = NodeImage::with(dir.path(), "nic2pod.invalid/not-there:1");
    let (code, said, cases) = run("missing", &missing.0);
    assert_eq!(code, Some(4), "{said}");
    let reason = cases[0]["reason"].to_string();
    assert!(reason.contains("nic2pod.invalid/not-there:1"), "{reason}");
}
