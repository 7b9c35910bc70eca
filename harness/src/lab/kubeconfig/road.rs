// SPDX-License-Identifier: Apache-2.0
//! The measured Service of a case, and where its requests go. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use workloads::protocol::Arrival;

use super::placement::Placement;
use crate::kube::{KubeError, Placed, RunningPod};
use crate::plan::{
    AffinityKind, ArrivalKind, Mode, PolicyKind, Road, ServiceSettings, WorkloadSettings,
};
use crate::proxy::{Affinity, Endpoint, Policy, Protocol, Service, ServicePort};

/// Name of the measured Service, up to what tells the cases apart.
pub(super) const NAME: &str = "web";
/// Its port.
const PORT: u16 = 80;
/// Kubernetes' default session affinity timeout, `v1.DefaultClientIPServiceAffinitySeconds`.
const AFFINITY_TIMEOUT: Duration = Duration::from_secs(10_800);

/// The measured Service in front of these pods, which answer at `port`. The cluster chooses its address and NodePort: those
/// here only say that it has them.
pub(super) fn service(targets: &[RunningPod], port: u16, settings: &ServiceSettings) -> Service {
    let endpoint = |pod: &RunningPod| Endpoint {
        address: SocketAddr::new(pod.address, port),
        node: pod.node.clone(),
    };
    let policy = |kind| match kind {
        PolicyKind::Cluster => Policy::Cluster,
        PolicyKind::Local => Policy::Local,
    };
    Service {
        namespace: "default".to_owned(),
        name: NAME.to_owned(),
        cluster_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        load_balancer_ips: Vec::new(),
        ports: vec![ServicePort {
            name: "http".to_owned(),
            protocol: Protocol::Tcp,
            port: PORT,
            node_port: Some(30_080),
            endpoints: targets.iter().map(endpoint).collect(),
        }],
        affinity: match settings.affinity {
            AffinityKind::None => Affinity::None,
            AffinityKind::ClientIp => Affinity::ClientIp { timeout: AFFINITY_TIMEOUT },
        },
        external_policy: policy(settings.external_policy),
        internal_policy: policy(settings.internal_policy),
    }
}

/// Whether requests of a case pass a Service at all.
pub(super) fn passes_service(mode: Mode, road: Road) -> bool {
    mode != Mode::None && road != Road::Direct
}

/// Where the requests of a case that passes the Service go.
pub(super) fn service_address(
    placement: &Placement,
    road: Road,
    placed: &Placed,
) -> Result<SocketAddr, KubeError> {
    if road == Road::Clusterip {
        return Ok(SocketAddr::new(placed.cluster_ip, PORT));
    }
    let (address, port) = (placement.entry.address, placed.node_ports.get(&PORT));
    address.zip(port).map(|(address, port)| SocketAddr::new(address, *port)).ok_or_else(|| {
        KubeError::Answer {
            subject: format!("Service {NAME}"),
            problem: format!("it has no NodePort at node {}", placement.entry.name),
        }
    })
}

/// One worker's share of a workload: connections and rate are those of all workers together.
pub(super) fn share(workload: &WorkloadSettings, worker: u32, workers: u32) -> Arrival {
    let connections =
        workload.connections / workers + u32::from(worker < workload.connections % workers);
    match (workload.arrival, workload.rate, workload.schedule) {
        (ArrivalKind::Open, Some(rate), Some(schedule)) => {
            let rate = rate / f64::from(workers);
            Arrival::Open { rate, schedule, max_in_flight: connections }
        }
        _ => Arrival::Closed { connections },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Profile;

    fn workload(name: &str) -> WorkloadSettings {
        let profile = Profile::embedded().unwrap();
        profile.workload[name].clone()
    }

    #[test]
    fn workers_together_are_the_workload() {
        let mut workload = workload("newconn");
        workload.arrival = ArrivalKind::Closed;
        workload.connections = 8;
        for workers in 1..=8 {
            let shares = (0..workers).map(|worker| match share(&workload, worker, workers) {
                Arrival::Closed { connections } => connections,
                Arrival::Open { .. } => panic!("a closed loop became an open one"),
            });
            let shares: Vec<_> = shares.collect();
            assert_eq!(shares.iter().sum::<u32>(), 8, "{shares:?}");
            assert!(shares.iter().all(|&connections| connections > 0));
        }
    }
}
