// SPDX-License-Identifier: Apache-2.0
//! Where a case resolves names: the DNS Service, the pod behind it, what a client asks there, and the
//! proof that the mode carries it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::libc::IPPROTO_UDP;
use workloads::protocol::{DnsReply, DnsService, DnsSpec, LoadResolve};

use super::measured::Measured;
use super::{Hosts, NetnsError, road};
use crate::Unavailable;
use crate::lab::LabError;
use crate::net::Agent;
use crate::net::addresses::{LOAD_BALANCERS, SERVICES};
use crate::net::conntrack::{self, Tuple};
use crate::plan::{Case, Mode, Place, Profile, Road, Route};
use crate::proxy::{Affinity, Endpoint, Policy, Protocol, ProxyError, Service, ServicePort};

/// Port of names (RFC 1035, section 4.2).
const PORT: u16 = 53;
/// Place of its addresses in their ranges: clusters give the DNS Service the tenth.
const NTH: u128 = 10;
/// That of its cluster address where an API server has given the tenth to its own.
const NTH_BESIDE: u128 = road::CLUSTER_NTH + 2;
/// Its NodePort there. API servers before 1.22 give a Service with a LoadBalancer address one in any case, and one
/// of their choice may be another Service's.
const NODE_PORT: u16 = 30053;
/// The cluster's domain.
const DOMAIN: &str = "cluster.local";
/// Names of the search path.
const SEARCHED: u64 = 3;
/// What kubelet writes into a pod's `resolv.conf`.
const NDOTS: u8 = 5;
/// How long the server may take to listen, with all names of the largest table.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a server of others may take to know a name: asked too early, it may answer for half a minute from its
/// cache that there is none (`cache 30` in kubeadm's Corefile).
const HEARD_PATIENCE: Duration = Duration::from_secs(60);
/// How often it is asked meanwhile.
const GLANCE: Duration = Duration::from_millis(200);
/// Patience with the answer to a query that is not measured; every neighbour has to be resolved for it.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);

/// Whether a case's client resolves names.
fn resolves(profile: &Profile, case: &Case) -> bool {
    profile.workload[&case.workload].resolve
}

/// The road of a case's queries; `None` where its client resolves no names.
///
/// # Errors
/// Its mode carries no UDP.
pub(in crate::lab) fn asked(profile: &Profile, case: &Case) -> Result<Option<Route>, Unavailable> {
    if !resolves(profile, case) {
        return Ok(None);
    }
    carried(case.mode)?;
    Ok(Some(route(case)))
}

/// Node of the pod that serves names, index: the one of the pods that answer, so that queries go the way
/// requests go. `None` where none are resolved.
pub(in crate::lab) fn node(profile: &Profile, case: &Case) -> Option<u32> {
    let node = match case.route.place {
        Place::Local => 0,
        Place::Remote => road::REMOTE_NODE as u32,
    };
    resolves(profile, case).then_some(node)
}

/// Whether a mode carries queries.
fn carried(mode: Mode) -> Result<(), Unavailable> {
    match mode {
        Mode::Userspace => Err(Unavailable::new(
            "UDP through the mode, for names that are resolved",
            "mode userspace, whose process carries TCP",
            "--mode none,iptables,ipvs,nftables,ebpf, or a workload without resolve",
        )),
        _ => Ok(()),
    }
}

/// The road of queries as they walk it. A client outside asks at the DNS Service's LoadBalancer address,
/// whatever road its requests take; without Services the pod itself is asked.
pub(super) fn route(case: &Case) -> Route {
    let road = match (case.route.road, case.mode) {
        (Road::Clusterip, _) => Road::Clusterip,
        (_, Mode::None) => Road::Direct,
        _ => Road::Lbip,
    };
    Route { road, place: case.route.place }
}

/// Whether an API server has the Services, which has others besides.
fn is_told(lab: &Hosts) -> bool {
    lab.namespace.is_some()
}

/// Cluster address of the DNS Service.
fn cluster_ip(lab: &Hosts) -> IpAddr {
    SERVICES.of(lab.family()).nth(if is_told(lab) { NTH_BESIDE } else { NTH })
}

/// Namespace of a Service: the table's, or the one that an API server has it in.
fn namespace<'a>(lab: &'a Hosts, service: &'a Service) -> &'a str {
    lab.namespace.as_deref().unwrap_or(&service.namespace)
}

/// The search path of a client that is a pod of that namespace.
fn search(namespace: &str) -> [String; SEARCHED as usize] {
    [format!("{namespace}.svc.{DOMAIN}"), format!("svc.{DOMAIN}"), DOMAIN.to_owned()]
}

/// The DNS Service; `None` where no names are resolved.
pub(super) fn service(lab: &Hosts) -> Option<Service> {
    let pod = &lab.pods()[lab.dns?];
    let endpoint = Endpoint {
        address: SocketAddr::new(pod.address, PORT),
        node: lab.nodes()[pod.node].name.clone(),
    };
    Some(Service {
        namespace: "kube-system".to_owned(),
        name: "kube-dns".to_owned(),
        cluster_ip: cluster_ip(lab),
        load_balancer_ips: vec![LOAD_BALANCERS.of(lab.family()).nth(NTH)],
        ports: vec![ServicePort {
            name: "dns".to_owned(),
            protocol: Protocol::Udp,
            port: PORT,
            node_port: is_told(lab).then_some(NODE_PORT),
            endpoints: vec![endpoint],
        }],
        affinity: Affinity::None,
        external_policy: Policy::Cluster,
        internal_policy: Policy::Cluster,
    })
}

/// What the client of a case resolves; `None` where it resolves nothing.
pub(super) fn resolve(lab: &Hosts, case: &Case, measured: &Measured) -> Option<LoadResolve> {
    let pod = SocketAddr::new(lab.pods()[lab.dns?].address, PORT);
    let server = match (case.mode, route(case).road) {
        (Mode::None, _) => pod,
        (_, Road::Clusterip) => SocketAddr::new(cluster_ip(lab), PORT),
        _ => SocketAddr::new(LOAD_BALANCERS.of(lab.family()).nth(NTH), PORT),
    };
    let service = &measured.table.services[measured.service];
    let namespace = namespace(lab, service);
    Some(LoadResolve {
        server,
        name: format!("{}.{namespace}.svc.{DOMAIN}", service.name),
        search: search(namespace).to_vec(),
        ndots: NDOTS,
        address: address(lab, case, measured),
    })
}

/// The names that the client of a case asks for, in order.
///
/// # Errors
/// One is no name.
pub(super) fn tried(
    lab: &Hosts,
    case: &Case,
    measured: &Measured,
) -> Result<Vec<String>, LabError> {
    let Some(spec) = resolve(lab, case, measured) else { return Ok(Vec::new()) };
    workloads::load::tried(&spec).map_err(LabError::Unsound)
}

/// The measured Service's address by its name. Without Services there are no cluster addresses: it has
/// its pod's then, as a headless Service has.
fn address(lab: &Hosts, case: &Case, measured: &Measured) -> IpAddr {
    match case.mode {
        Mode::None => road::beyond_balancer(lab, case, measured).ip(),
        _ => measured.table.services[measured.service].cluster_ip,
    }
}

/// Connections of a case that have sources for all queries before them, of as many as have one.
pub(super) fn budget(connections: u64, resolves: bool) -> u64 {
    // One source for each name of the search path, and the name itself.
    if resolves { connections / (SEARCHED + 1) } else { connections }
}

impl Hosts {
    /// Starts `program args` as the server of names, where the lab has a pod for it, and waits until it
    /// listens. Names have the addresses of the `second` family's Services as well, where there is one. The
    /// cluster's own runs already: it is waited for until it has heard of the measured Service.
    ///
    /// # Errors
    /// It cannot be started, does not listen in time, or says why it cannot; the cluster's own does not know the
    /// Service in time.
    pub(in crate::lab) fn start_dns(
        &mut self,
        program: &Path,
        args: &[&str],
        case: &Case,
        measured: &Measured,
        second: Option<&[Service]>,
    ) -> Result<(), NetnsError> {
        let Some(index) = self.dns else { return Ok(()) };
        if self.dns_is_the_clusters {
            return self.await_name(index, case, measured);
        }
        // The tables are alike but for the family.
        let also = |index: usize| second.map(|services| services[index].cluster_ip);
        let services = measured.table.services.iter().enumerate().map(|(index, service)| {
            let address = match index == measured.service {
                true => address(self, case, measured),
                false => service.cluster_ip,
            };
            DnsService {
                name: service.name.clone(),
                namespace: namespace(self, service).to_owned(),
                addresses: std::iter::once(address).chain(also(index)).collect(),
            }
        });
        let services = services.collect();
        let also = self.second.as_ref().map(|second| second.pods[index].address);
        let pod = &mut self.pods[index];
        let addresses = std::iter::once(pod.address).chain(also);
        let listen = addresses.map(|address| SocketAddr::new(address, PORT)).collect();
        let spec = DnsSpec { listen, domain: DOMAIN.to_owned(), services };
        let name = pod.name.clone();
        let failed = |source| NetnsError::Target { pod: name.clone(), source };
        let mut agent = Agent::start(&pod.netns, program, args).map_err(failed)?;
        agent.tell(&spec).map_err(failed)?;
        match agent.hear(PATIENCE).map_err(failed)? {
            DnsReply::Ready => pod.target = Some(agent),
            DnsReply::Failed(reason) => {
                return Err(NetnsError::TargetRefused { pod: name, reason });
            }
        }
        Ok(())
    }

    /// Waits until a server that learns names from the API server has the measured Service's.
    fn await_name(&self, index: usize, case: &Case, measured: &Measured) -> Result<(), NetnsError> {
        let Some(LoadResolve { name, address, .. }) = resolve(self, case, measured) else {
            return Ok(());
        };
        let pod = &self.pods[index];
        let server = SocketAddr::new(pod.address, PORT);
        let source = SocketAddr::new(self.nodes[pod.node].address, 0);
        let deadline = Instant::now() + HEARD_PATIENCE;
        loop {
            let asked = name.clone();
            let answer = self.nodes[pod.node]
                .netns
                .run(move || workloads::dns::lookup(source, server, &asked, ANSWER_PATIENCE));
            let found = match answer {
                Ok(told) if told == address => return Ok(()),
                Ok(told) => format!("it says {told}"),
                Err(error) => error.to_string(),
            };
            if Instant::now() > deadline {
                return Err(NetnsError::TargetRefused {
                    pod: pod.name.clone(),
                    reason: format!("{name} is not known there as {address}: {found}"),
                });
            }
            std::thread::sleep(GLANCE);
        }
    }
}

/// Asks for the measured Service's name by the case's own road, and shows what carried it: evidence.
///
/// # Errors
/// Nobody answers, the answer is another address, or the mode did not translate the query.
pub(super) fn prove(
    lab: &Hosts,
    case: &Case,
    measured: &Measured,
) -> Result<Vec<String>, LabError> {
    let Some(LoadResolve { server, name, address, .. }) = resolve(lab, case, measured) else {
        return Ok(Vec::new());
    };
    let road = case.route.road;
    let client = SocketAddr::new(road::sources(lab, road).addresses[0], road::PROBE_PORT_FIRST);
    let asked = name.clone();
    let answered = road::origin(lab, road)
        .run(move || workloads::dns::lookup(client, server, &asked, ANSWER_PATIENCE));
    let unreachable = |found: String| LabError::Unreachable {
        client: format!("{} ({client})", road::origin(lab, road).name()),
        target: format!("{server} for {name}"),
        found,
    };
    let told = answered.map_err(|error| unreachable(error.to_string()))?;
    if told != address {
        return Err(unreachable(format!("{told}, and not {address}")));
    }
    let mut evidence = vec![format!("{client} asked {server} for {name}: {told}")];
    let entry = &lab.nodes()[0];
    let tuple = Tuple { protocol: IPPROTO_UDP as u8, source: client, destination: server };
    let flow = conntrack::find(&entry.netns, tuple)?;
    let translated = flow.as_ref().and_then(|flow| flow.dnat());
    let pod = service(lab).map(|service| service.ports[0].endpoints[0].address);
    if matches!(case.mode, Mode::Iptables | Mode::Nftables) && translated != pod {
        return Err(ProxyError::NotProved {
            mode: case.mode,
            host: entry.name.clone(),
            expected: format!("{tuple} by UDP is translated to {pod:?}"),
            found: format!("{flow:?}"),
        }
        .into());
    }
    evidence.extend(flow.map(|flow| {
        format!("conntrack on {}: udp {}, answered by {}", entry.name, flow.original, flow.reply)
    }));
    Ok(evidence)
}
