// SPDX-License-Identifier: Apache-2.0
//! What the kernel says of a lab that is up.

use super::{Hosts, NetnsError, NetnsLab};
use crate::capture::TapPoint;
use crate::net::{Change, Cidr, Netns};

impl NetnsLab {
    /// Shows from the kernel's own state, read back, that the pods are wired as the CNI wires
    /// them. Returns evidence: interfaces, routes between hosts, neighbours and forwarding entries
    /// by name, routes of single addresses by number.
    ///
    /// # Errors
    /// [`NetnsError::NotProved`] says what is not as planned.
    pub fn prove(&self) -> Result<Vec<String>, NetnsError> {
        let mut evidence = Vec::new();
        if !self.emulated.is_empty() {
            let emulated: Vec<_> = self.emulated.iter().collect();
            evidence.extend(self.prove_host(&self.fabric, &emulated)?);
        }
        evidence.extend(self.prove_wiring()?);
        if let Some(second) = self.second() {
            evidence.extend(second.prove_wiring()?);
        }
        if let Some(attachments) = &self.attachments {
            evidence.extend(attachments.prove(self)?);
        }
        Ok(evidence)
    }
}

impl Hosts {
    /// The same of nodes and pods, as far as the wiring plans them.
    pub(in crate::lab) fn prove_wiring(&self) -> Result<Vec<String>, NetnsError> {
        let mut evidence = Vec::new();
        for ((index, node), wiring) in self.nodes.iter().enumerate().zip(&self.wiring.nodes) {
            let (inside, own): (Vec<&Change>, Vec<&Change>) =
                wiring.changes.iter().partition(|change| change.elsewhere().is_some());
            for &(key, value) in wiring.settings {
                let found = node.netns.sysctl(key)?;
                if found.as_deref() != Some(value) {
                    return Err(NetnsError::NotProved {
                        cni: self.cni,
                        host: node.name.clone(),
                        expected: format!("sysctl -w {key}={value}"),
                        found: format!("{found:?}"),
                    });
                }
            }
            evidence.extend(self.prove_host(&node.netns, &own)?);
            let pods = self.pods.iter().filter(|pod| pod.node == index);
            for (pod, changes) in pods.zip(&wiring.pods) {
                // What the node put there is found there.
                let here = |change: &&&Change| {
                    change.elsewhere().is_some_and(|netns| netns.name() == pod.netns.name())
                };
                let all: Vec<_> = inside.iter().filter(here).copied().chain(changes).collect();
                evidence.extend(self.prove_host(&pod.netns, &all)?);
            }
        }
        Ok(evidence)
    }

    fn prove_host(&self, host: &Netns, changes: &[&Change]) -> Result<Vec<String>, NetnsError> {
        let state = host.state()?;
        for change in changes {
            state.holds(change).map_err(|found| NetnsError::NotProved {
                cni: self.cni,
                host: host.name().to_owned(),
                expected: change.to_string(),
                found: found.chars().take(2000).collect(),
            })?;
        }
        let is_one = |cidr: Cidr| cidr == Cidr::host(cidr.address);
        let single = |change: &&Change| {
            matches!(change, Change::Route(route) if is_one(route.to))
                || matches!(change, Change::Address(address) if is_one(address.cidr))
        };
        let (singles, others): (Vec<&Change>, Vec<&Change>) =
            changes.iter().copied().partition(single);
        let name = host.name();
        let count = format!("{name} has {} addresses and routes of a single host", singles.len());
        let count = (!singles.is_empty()).then_some(count);
        Ok(others.iter().map(|change| format!("{name} has `{change}`")).chain(count).collect())
    }

    /// Offloads of every interface that a request or its answer may pass, one line for each.
    ///
    /// # Errors
    /// An interface is gone.
    pub fn offloads(&self) -> Result<Vec<String>, NetnsError> {
        let line = |point: TapPoint<'_>| {
            let offloads = point.netns.offloads(point.device)?;
            Ok(format!("{} {}: {offloads}", point.netns.name(), point.device))
        };
        self.tap_points().into_iter().map(line).collect()
    }
}
