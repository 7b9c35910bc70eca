// SPDX-License-Identifier: Apache-2.0
//! The end of a lab: processes first, then namespaces, and what would not go.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use super::wire::is_between_switches;
use super::{Hosts, NetnsLab};
use crate::net::{Agent, NetError, Netns, State};

/// How long what was killed may take to leave its host.
const STRAY_PATIENCE: Duration = Duration::from_millis(200);
/// How long the kernel may take to dismantle the namespaces.
const KERNEL_PATIENCE: Duration = Duration::from_secs(10);
/// How often a connection that no process holds repeats what is not answered (`tcp_orphan_retries`,
/// `net/ipv4/tcp_timer.c`). The kernel's 0 stands for 8.
const ONE_TRY: (&str, &str) = ("net/ipv4/tcp_orphan_retries", "1");

/// How a lab ended.
#[derive(Debug)]
pub struct DownReport {
    /// How long it took, the kernel's own work included.
    pub took: Duration,
    /// What went wrong; empty when the host is as it was found.
    pub errors: Vec<String>,
}

/// A lab that nobody holds any more and that the kernel is dismantling.
#[derive(Debug)]
pub struct Leaving {
    started: Instant,
    /// Kept to see the others go; none when a process would not leave its host.
    fabric: Option<Netns>,
    /// What went wrong so far.
    pub errors: Vec<String>,
}

impl Leaving {
    /// Waits until the kernel has dismantled the namespaces, so that its work does not fall into
    /// what is measured next.
    pub fn settle(self) -> DownReport {
        let Self { started, fabric, mut errors } = self;
        // What stays behind keeps its namespace; there is nothing to wait for.
        if let Some(fabric) = fabric
            && let Err(error) = dismantled(&fabric)
        {
            errors.push(error.to_string());
        }
        DownReport { took: started.elapsed(), errors }
    }
}

impl NetnsLab {
    /// Ends the lab and waits for the kernel. Nothing stops at an error.
    pub fn down(self) -> DownReport {
        self.release().settle()
    }

    /// Ends the servers, looks for processes that somebody left on a host and lets the namespaces
    /// go. Nothing stops at an error.
    pub fn release(mut self) -> Leaving {
        let started = Instant::now();
        let mut errors = Vec::new();
        for pod in self.pods_mut() {
            if let Some(Err(error)) = pod.target.take().map(Agent::down) {
                errors.push(format!("failed to end the server in {}: {error}", pod.name));
            }
        }
        errors.extend(self.stop_between());
        errors.extend(self.detach());
        errors.extend(self.forget_connections());
        let strays = self.strays();
        let left_behind = !strays.is_empty();
        errors.extend(strays);
        let Self { hosts: Hosts { pods, nodes, client, balancer, .. }, fabric, .. } = self;
        // Nodes last: the kernel dismantles in the order of departure, so that when they are gone
        // all are.
        let pods = pods.into_iter().map(|pod| pod.netns);
        let outside = [client.netns].into_iter().chain(balancer.map(|balancer| balancer.netns));
        Netns::drop_all(pods.chain(outside).chain(nodes.into_iter().map(|node| node.netns)));
        Leaving { started, fabric: (!left_behind).then_some(fabric), errors }
    }

    /// Has plugins of others undo what they did. Returns what went wrong; to be called once, and
    /// nothing the second time.
    pub fn detach(&mut self) -> Vec<String> {
        let Self { attachments, hosts, .. } = self;
        attachments.as_mut().map_or_else(Vec::new, |attachments| attachments.detach(hosts))
    }

    /// Lets connections go that nobody holds and whose last segment the wire has lost: each keeps its
    /// host until it has given up, which takes minutes where the other end is gone. Each gives up when it
    /// would send that segment for the second time.
    fn forget_connections(&self) -> Vec<String> {
        let written: Vec<_> =
            self.hosts().map(|host| host.begin_write_sysctls([ONE_TRY])).collect();
        let failed = written.into_iter().filter_map(|written| written.wait().err());
        failed.map(|error| error.to_string()).collect()
    }

    /// [`NetnsLab::processes`] that do not leave either.
    fn strays(&self) -> Vec<String> {
        let deadline = Instant::now() + STRAY_PATIENCE;
        loop {
            let strays = self.processes();
            if strays.is_empty() || Instant::now() > deadline {
                return strays;
            }
            std::thread::yield_now();
        }
    }

    /// Processes on a host of the lab, each of which would keep its namespace.
    fn processes(&self) -> Vec<String> {
        let hosts: Vec<_> = self
            .hosts()
            .chain([&self.fabric])
            .filter_map(|host| {
                let stat = nix::sys::stat::fstat(host.as_fd()).ok()?;
                Some((stat.st_ino, host.name()))
            })
            .collect();
        let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
        processes
            .flatten()
            .filter_map(|entry| {
                let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
                // A process of somebody else's, or gone meanwhile, is not on a host of ours.
                let inode = std::fs::metadata(entry.path().join("ns/net")).ok()?.ino();
                let (_, host) = hosts.iter().find(|(host, _)| *host == inode)?;
                let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                Some(format!("process {pid} ({}) is still on {host}", name.trim_end()))
            })
            .collect()
    }
}

/// Waits until the kernel has taken the switches' ports away, those to hosts, which it does when it dismantles the
/// namespace at a port's other end.
fn dismantled(fabric: &Netns) -> Result<State, NetError> {
    let no_ports = |state: &State| {
        let mut links = state.links.iter();
        links.all(|link| link.bridge.is_none() || is_between_switches(&link.name))
    };
    fabric.wait_for(KERNEL_PATIENCE, no_ports)
}
