// SPDX-License-Identifier: Apache-2.0
//! A cluster that exists: brought up by `lab up`, and told to the tests that need one by the one that
//! brought it up, in the environment.

use std::process::Command;
use std::time::Instant;

/// Names the cluster's kubeconfig, as it does for `kubectl`.
pub(crate) const KUBECONFIG: &str = "KUBECONFIG";
/// Names the control plane's container.
pub(crate) const NODE: &str = "NIC2POD_KIND_NODE";
/// Names the image with the agents, which the nodes have.
pub(crate) const IMAGE: &str = "NIC2POD_WORKLOADS_IMAGE";

/// What a test is told.
pub(crate) fn told(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: see cluster.rs"))
}

/// The kubeconfig's text.
pub(crate) fn kubeconfig() -> String {
    std::fs::read_to_string(told(KUBECONFIG)).unwrap()
}

/// Waits until the control plane's node has this many Services' chains.
pub(crate) fn await_rules(at_least: usize, deadline: Instant) -> usize {
    let node = told(NODE);
    loop {
        let saved = ["exec", &node, "iptables-save", "-t", "nat"];
        let output = Command::new("docker").args(saved).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let chains = text.lines().filter(|line| line.starts_with(":KUBE-SVC-")).count();
        if chains >= at_least {
            return chains;
        }
        assert!(Instant::now() < deadline, "{chains} of {at_least} Services have a chain");
    }
}
