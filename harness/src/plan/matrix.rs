// SPDX-License-Identifier: Apache-2.0
//! The matrix multiplied out: groups of cases that differ only in their mode, who writes its rules and their
//! addresses.

use std::fmt;

use workloads::protocol::Connection;

use super::{
    ArrivalKind, Case, CniChoice, CniKind, Conflist, IpStack, MatrixSettings, Mode, Place,
    PolicyKind, Position, Profile, Proxy, Road,
};

/// Most cases a plan may have.
pub const CASES_MAX: usize = 10_000;

/// A matrix that cannot be run, in terms of the key or flag to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct PlanError {
    /// Key path in the profile; the flag of `bench` has the last part's name.
    pub key: String,
    /// What is wrong with its value.
    pub message: String,
}

/// Cases that differ only in their mode, who writes its rules and their addresses. They are up at the same time and their iterations are
/// interleaved, so that a drift of the machine meets all of them alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Cases in the order of the profile's modes.
    pub cases: Vec<Case>,
}

/// Everything a run will do, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Groups in order.
    pub groups: Vec<Group>,
}

impl Plan {
    /// Multiplies a profile's matrix out, on the kernels that its choices came down to: `host` or
    /// labels. Kernels are in one group, so that they take turns like modes.
    ///
    /// # Errors
    /// An axis is empty, a value is out of its range, or two values cannot be had together.
    pub fn new(profile: &Profile, kernels: &[&str]) -> Result<Self, PlanError> {
        validate(profile, kernels)?;
        let matrix = &profile.matrix;
        let datapaths = datapaths(matrix);
        let mut groups = Vec::new();
        for (cni, conflist) in cnis(profile)? {
            for &route in &matrix.route {
                for &services in &matrix.services {
                    for &position in positions(&matrix.position, services) {
                        for workload in &matrix.workload {
                            let case = |kernel: &str, (mode, proxy, ip): Datapath| Case {
                                kernel: kernel.to_owned(),
                                mode,
                                proxy,
                                ip,
                                cni,
                                conflist: conflist.cloned(),
                                route,
                                services,
                                position,
                                workload: workload.clone(),
                            };
                            let of_kernel = |&kernel| {
                                datapaths.iter().map(move |&datapath| case(kernel, datapath))
                            };
                            groups.push(Group {
                                cases: kernels.iter().flat_map(of_kernel).collect(),
                            });
                        }
                    }
                }
            }
        }
        Ok(Self { groups })
    }

    /// The same groups in an order in which the number of Services changes least often, for labs where
    /// telling a cluster of a thousand Services takes longer than all else.
    #[must_use]
    pub fn by_services(mut self) -> Self {
        let key = |group: &Group| {
            let case = &group.cases[0];
            (case.cni, case.cni_label(), case.services)
        };
        self.groups.sort_by_key(key);
        self
    }

    /// Number of cases.
    pub fn cases(&self) -> usize {
        self.groups.iter().map(|group| group.cases.len()).sum()
    }
}

/// The matrix's CNIs with their lists. Ids name a list by the name in it, so that no two may share one.
fn cnis(profile: &Profile) -> Result<Vec<(CniKind, Option<&Conflist>)>, PlanError> {
    let mut all: Vec<(CniKind, Option<&Conflist>)> = Vec::new();
    for choice in &profile.matrix.cni {
        let conflist = match choice {
            CniChoice::Known(_) => None,
            CniChoice::Exec(path) => {
                let list = profile.lab.conflist.get(&*path.to_string_lossy());
                Some(list.ok_or_else(|| wrong("matrix.cni", format!("{choice} was not read")))?)
            }
        };
        if let Some(list) = conflist
            && all.iter().flat_map(|(_, other)| other).any(|other| other.name() == list.name())
        {
            let message = format!("two lists have the name `{}`", list.name());
            return Err(wrong("matrix.cni", message));
        }
        all.push((choice.kind(), conflist));
    }
    Ok(all)
}

/// A mode, who writes its rules, and the addresses in them.
type Datapath = (Mode, Proxy, IpStack);

/// Each mode by each of those who write rules, for each kind of addresses. Mode none has no rules to write, and
/// is there once for each.
fn datapaths(matrix: &MatrixSettings) -> Vec<Datapath> {
    let of_mode = |&mode: &Mode| match mode {
        Mode::None => vec![(mode, Proxy::Own)],
        _ => matrix.proxy.iter().map(|&proxy| (mode, proxy)).collect(),
    };
    let of_both = |(mode, proxy)| matrix.ip.iter().map(move |&ip| (mode, proxy, ip));
    matrix.mode.iter().flat_map(of_mode).flat_map(of_both).collect()
}

/// A Service that is alone has one place only.
fn positions(asked: &[Position], services: u32) -> &[Position] {
    if services == 1 { &asked[..1] } else { asked }
}

fn wrong(key: &str, message: impl Into<String>) -> PlanError {
    PlanError { key: key.to_owned(), message: message.into() }
}

fn within(key: &str, value: u64, low: u64, high: u64) -> Result<(), PlanError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(wrong(key, format!("{value} is not between {low} and {high}")))
}

fn axis<T: PartialEq + fmt::Display>(key: &str, values: &[T]) -> Result<(), PlanError> {
    if values.is_empty() {
        return Err(wrong(key, "names nothing; give at least one value"));
    }
    match values.iter().enumerate().find(|(i, value)| values[..*i].contains(value)) {
        Some((_, twice)) => Err(wrong(key, format!("`{twice}` is named twice"))),
        None => Ok(()),
    }
}

fn validate(profile: &Profile, kernels: &[&str]) -> Result<(), PlanError> {
    let Profile { matrix, run, lab, service, .. } = profile;
    axis("matrix.kernel", kernels)?;
    axis("matrix.mode", &matrix.mode)?;
    axis("matrix.proxy", &matrix.proxy)?;
    axis("matrix.ip", &matrix.ip)?;
    if matrix.proxy.contains(&Proxy::KubeProxy) && service.kube_proxy.is_none() {
        let message = "kube-proxy is to write the rules, and its program is not named: --proxy-bin PATH, or \
                       service.kube_proxy in the profile";
        return Err(wrong("matrix.proxy", message));
    }
    axis("matrix.cni", &matrix.cni)?;
    axis("matrix.route", &matrix.route)?;
    axis("matrix.services", &matrix.services)?;
    axis("matrix.position", &matrix.position)?;
    axis("matrix.workload", &matrix.workload)?;
    let cases = [
        kernels.len(),
        matrix.mode.len(),
        matrix.proxy.len(),
        matrix.ip.len(),
        matrix.cni.len(),
        matrix.route.len(),
        matrix.services.len(),
        matrix.position.len(),
        matrix.workload.len(),
    ];
    if cases.iter().try_fold(1usize, |all, &n| all.checked_mul(n)).is_none_or(|all| all > CASES_MAX)
    {
        return Err(wrong("matrix", format!("makes more than {CASES_MAX} cases")));
    }
    for &services in &matrix.services {
        within("matrix.services", services.into(), 1, 60_000)?;
    }
    within("run.iterations", run.iterations.into(), 1, 1000)?;
    within("run.blocks", run.blocks.into(), 1, 10_000)?;
    within("run.duration (ms)", run.duration.millis(), 10, 3_600_000)?;
    within("run.warm_up (ms)", run.warm_up.millis(), 0, 600_000)?;
    within("run.samples_per_second", run.samples_per_second.into(), 1, 1_000_000)?;
    within("run.pcap_snap_bytes", run.pcap_snap_bytes.into(), 128, 65_535)?;
    within("run.trace_slowest", run.trace_slowest.into(), 0, 100)?;
    within("lab.nodes", lab.nodes.into(), 1, 8)?;
    within("lab.pods_per_node", lab.pods_per_node.into(), 2, 16)?;
    within("lab.mtu", lab.mtu.into(), 1280, 65_535)?;
    within("lab.client_addresses", lab.client_addresses.into(), 1, 200)?;
    within("lab.pod_extra_addresses", lab.pod_extra_addresses.into(), 0, 64)?;
    within("lab.guest_memory_mib", lab.guest_memory_mib.into(), 256, 65_536)?;
    if lab.proxy_protocol && lab.balancer.routes() {
        let message = "router and ipvs pass packets on as they are, and have no connections to say it on: they keep \
                       the client's address without";
        return Err(wrong("lab.proxy_protocol", message));
    }
    within("lab.guest_cpus", lab.guest_cpus.into(), 0, 8)?;
    within("service.filler_endpoints", service.filler_endpoints.into(), 0, 1000)?;
    // The entry node's first pod is the client of the clusterip road.
    within("service.endpoints", service.endpoints.into(), 1, (lab.pods_per_node - 1).into())?;
    for name in &matrix.workload {
        validate_workload(profile, name)?;
    }
    matrix.route.iter().try_for_each(|route| {
        let local_policy = match route.road {
            Road::Direct => None,
            Road::Clusterip | Road::Ingress => {
                Some(("service.internal_policy", service.internal_policy))
            }
            // The controller's own Service has no policy.
            Road::IngressEndpoints => None,
            Road::Nodeport | Road::Lbip | Road::Loadbalancer => {
                Some(("service.external_policy", service.external_policy))
            }
        };
        match (route.place, local_policy) {
            (Place::Remote, _) if lab.nodes < 2 => {
                Err(wrong("matrix.route", format!("{route} needs lab.nodes of at least 2")))
            }
            (Place::Remote, Some((key, PolicyKind::Local))) => Err(wrong(
                "matrix.route",
                format!("{route} cannot be reached with {key} = \"local\""),
            )),
            _ => Ok(()),
        }
    })
}

fn validate_workload(profile: &Profile, name: &str) -> Result<(), PlanError> {
    let Some(workload) = profile.workload.get(name) else {
        let known: Vec<_> = profile.workload.keys().map(String::as_str).collect();
        let message = format!("`{name}` is not one of {}", known.join(", "));
        return Err(wrong("matrix.workload", message));
    };
    let key = |leaf: &str| format!("workload.{name}.{leaf}");
    within(&key("connections"), workload.connections.into(), 1, 10_000)?;
    let body_max = workload.protocol.body_bytes_max();
    within(&key("request_bytes"), workload.request_bytes, 0, body_max)?;
    within(&key("response_bytes"), workload.response_bytes, 0, body_max)?;
    within(&key("server_work (ns)"), workload.server_work.nanos(), 0, 1_000_000_000)?;
    within(&key("timeout (ms)"), workload.timeout.millis(), 1, 600_000)?;
    match (workload.resume, workload.tls, workload.connection) {
        (false, ..) | (true, Some(_), Connection::Newconn) => {}
        (true, None, _) => {
            return Err(wrong(&key("resume"), "needs tls = \"1.3\" or \"1.2\" beside it"));
        }
        (true, Some(_), Connection::Keepalive) => {
            let message = "kept connections shake hands before the clock starts; it belongs to connection = \"newconn\"";
            return Err(wrong(&key("resume"), message));
        }
    }
    if workload.resolve && workload.connection == Connection::Keepalive {
        let message = "kept connections resolve before the clock starts; it belongs to connection = \"newconn\"";
        return Err(wrong(&key("resolve"), message));
    }
    match (workload.arrival, workload.rate, workload.schedule) {
        (ArrivalKind::Closed, None, None) => Ok(()),
        (ArrivalKind::Closed, ..) => {
            Err(wrong(&key("rate"), "belongs to arrival = \"open\"; a closed loop has no rate"))
        }
        (ArrivalKind::Open, Some(rate), Some(_)) if (0.1..=1_000_000.0).contains(&rate) => Ok(()),
        (ArrivalKind::Open, Some(rate), Some(_)) => {
            Err(wrong(&key("rate"), format!("{rate} is not between 0.1 and 1000000")))
        }
        (ArrivalKind::Open, ..) => {
            Err(wrong(&key("arrival"), "open needs rate and schedule beside it"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::plan::HOST_KERNEL;

    fn plan(text: &str) -> Result<Plan, PlanError> {
        Plan::new(&Profile::parse(Path::new("p"), text).unwrap(), &[HOST_KERNEL])
    }

    #[test]
    fn the_default_matrix_has_one_group_for_each_point_beside_the_mode() {
        let plan = Plan::new(&Profile::embedded().unwrap(), &[HOST_KERNEL]).unwrap();
        assert_eq!(plan.groups.len(), 8);
        assert_eq!(plan.cases(), 48);
        assert_eq!(
            plan.groups[0].cases[2].id("netns"),
            "netns/iptables+bridge/nodeport-remote/svc-1/newconn"
        );
    }

    #[test]
    fn a_place_other_than_last_is_in_the_id() {
        let plan = plan("[matrix]\nservices = [10]\nposition = [\"first\"]\n").unwrap();
        let id = plan.groups[0].cases[0].id("netns");
        assert_eq!(id, "netns/none+bridge/nodeport-remote/svc-10-first/newconn");
    }

    #[test]
    fn kernels_take_turns_in_one_group_and_are_in_the_ids() {
        let profile =
            Profile::parse(Path::new("p"), "[matrix]\nmode = [\"none\", \"ipvs\"]").unwrap();
        let plan = Plan::new(&profile, &[HOST_KERNEL, "uml-7.2.13"]).unwrap();
        let ids: Vec<_> = plan.groups[0].cases.iter().map(|case| case.id("netns")).collect();
        assert_eq!(plan.groups.len(), 8);
        assert_eq!(
            ids,
            [
                "netns/none+bridge/nodeport-remote/svc-1/newconn",
                "netns/ipvs+bridge/nodeport-remote/svc-1/newconn",
                "netns+uml-7.2.13/none+bridge/nodeport-remote/svc-1/newconn",
                "netns+uml-7.2.13/ipvs+bridge/nodeport-remote/svc-1/newconn",
            ]
        );
    }

    #[test]
    fn services_change_least_often_and_cnis_keep_their_order() {
        let plan = plan("[matrix]\nmode = [\"iptables\"]\ncni = [\"flannel\", \"calico\"]\nservices = [1, 9]\n\
                         route = [\"nodeport-local\", \"nodeport-remote\"]\nworkload = [\"newconn\"]")
            .unwrap()
            .by_services();
        let cases = plan.groups.iter().map(|group| &group.cases[0]);
        let order: Vec<_> = cases.map(|case| (case.cni, case.services)).collect();
        let of = |cni| [(cni, 1), (cni, 1), (cni, 9), (cni, 9)];
        assert_eq!(order, [of(CniKind::Flannel), of(CniKind::Calico)].concat());
    }

    #[test]
    fn kube_proxy_takes_turns_with_our_own_rules_and_is_in_the_ids() {
        let text = "[matrix]\nmode = [\"none\", \"iptables\"]\nproxy = [\"own\", \"kube-proxy\"]\n\
                    [service]\nkube_proxy = \"/usr/bin/kube-proxy\"";
        let plan = plan(text).unwrap();
        let ids: Vec<_> = plan.groups[0].cases.iter().map(|case| case.id("netns")).collect();
        assert_eq!(
            ids,
            [
                "netns/none+bridge/nodeport-remote/svc-1/newconn",
                "netns/iptables+bridge/nodeport-remote/svc-1/newconn",
                "netns/iptables.kube-proxy+bridge/nodeport-remote/svc-1/newconn",
            ]
        );
    }

    #[test]
    fn impossible_matrices_name_the_key_to_change() {
        for (text, message) in [
            ("[matrix]\nmode = []", "matrix.mode: names nothing; give at least one value"),
            (
                "[matrix]\nproxy = [\"kube-proxy\"]",
                "matrix.proxy: kube-proxy is to write the rules, and its program is not named: --proxy-bin PATH, or service.kube_proxy in the profile",
            ),
            ("[matrix]\nservices = [0]", "matrix.services: 0 is not between 1 and 60000"),
            ("[matrix]\nservices = [7, 7]", "matrix.services: `7` is named twice"),
            ("[run]\ntrace_slowest = 101", "run.trace_slowest: 101 is not between 0 and 100"),
            (
                "[lab]\nproxy_protocol = true\nbalancer = \"router\"",
                "lab.proxy_protocol: router and ipvs pass packets on as they are, and have no connections to say it on: they keep the client's address without",
            ),
            ("[lab]\nnodes = 1", "matrix.route: nodeport-remote needs lab.nodes of at least 2"),
            (
                "[service]\nexternal_policy = \"local\"",
                "matrix.route: nodeport-remote cannot be reached with service.external_policy = \"local\"",
            ),
            (
                "[matrix]\nworkload = [\"x\"]",
                "matrix.workload: `x` is not one of dns-newconn, download, grpc, http2, keepalive, newconn, paced, tls-keepalive, tls-newconn, tls-resume, upload, users, websocket",
            ),
            (
                "[workload.newconn]\nrate = 5.0",
                "workload.newconn.rate: belongs to arrival = \"open\"; a closed loop has no rate",
            ),
            (
                "[matrix]\nworkload = [\"grpc\"]\n[workload.grpc]\nrequest_bytes = 4194304",
                "workload.grpc.request_bytes: 4194304 is not between 0 and 4194240",
            ),
            (
                "[workload.newconn]\nresume = true",
                "workload.newconn.resume: needs tls = \"1.3\" or \"1.2\" beside it",
            ),
            (
                "[workload.keepalive]\ntls = \"1.3\"\nresume = true",
                "workload.keepalive.resume: kept connections shake hands before the clock starts; it belongs to connection = \"newconn\"",
            ),
        ] {
            assert_eq!(plan(text).unwrap_err().to_string(), message);
        }
    }
}
