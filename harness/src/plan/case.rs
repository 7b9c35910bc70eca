// SPDX-License-Identifier: Apache-2.0
//! One point of the matrix, and the words its axes are made of.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Conflist, HOST_KERNEL};

/// Gives an enum its one spelling, used in profiles, on the command line and in case ids.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// Every value, in the order reports list them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its one spelling.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|value| value.word() == word).ok_or_else(|| {
                    format!("`{word}` is not one of {}", [$($word),+].join(", "))
                })
            }
        }
    };
}

words! {
    /// How Services are implemented.
    Mode {
        /// No Services: requests go to the pod's address. The floor for the others.
        None = "none",
        /// A TCP proxy process on the node, kube-proxy's mode up to Kubernetes 1.25.
        Userspace = "userspace",
        /// kube-proxy's iptables mode.
        Iptables = "iptables",
        /// kube-proxy's ipvs mode.
        Ipvs = "ipvs",
        /// kube-proxy's nftables mode.
        Nftables = "nftables",
        /// Programs at the devices, in place of kube-proxy and netfilter.
        Ebpf = "ebpf",
    }
}

words! {
    /// Who writes a mode's rules.
    Proxy {
        /// nic2pod, in kube-proxy's shape.
        Own = "own",
        /// A kube-proxy program of the user's.
        KubeProxy = "kube-proxy",
    }
}

words! {
    /// Which addresses hosts, pods and Services have, and requests go to.
    IpFamily {
        /// Those of IPv4.
        Ipv4 = "ipv4",
        /// Those of IPv6.
        Ipv6 = "ipv6",
    }
}

words! {
    /// Which addresses hosts, pods and Services have, and which of them requests go to.
    IpStack {
        /// Those of IPv4.
        Ipv4 = "ipv4",
        /// Those of IPv6.
        Ipv6 = "ipv6",
        /// Both, and requests go to those of IPv4.
        DualIpv4 = "dual-ipv4",
        /// Both, and requests go to those of IPv6.
        DualIpv6 = "dual-ipv6",
    }
}

impl IpStack {
    /// The family of the addresses that requests go to.
    pub fn family(self) -> IpFamily {
        match self {
            Self::Ipv4 | Self::DualIpv4 => IpFamily::Ipv4,
            Self::Ipv6 | Self::DualIpv6 => IpFamily::Ipv6,
        }
    }

    /// The other one, where there are both (KEP-563, dual stack).
    pub fn second(self) -> Option<IpFamily> {
        match self {
            Self::Ipv4 | Self::Ipv6 => None,
            Self::DualIpv4 => Some(IpFamily::Ipv6),
            Self::DualIpv6 => Some(IpFamily::Ipv4),
        }
    }

    /// Whether anything has addresses of a family.
    pub fn has(self, family: IpFamily) -> bool {
        self.family() == family || self.second() == Some(family)
    }
}

impl From<IpFamily> for IpStack {
    fn from(family: IpFamily) -> Self {
        match family {
            IpFamily::Ipv4 => Self::Ipv4,
            IpFamily::Ipv6 => Self::Ipv6,
        }
    }
}

words! {
    /// How pods are wired.
    CniKind {
        /// A routed veth per pod, as kindnet does it.
        Ptp = "ptp",
        /// A bridge per node and routes between nodes, as flannel's host-gw backend does it.
        Bridge = "bridge",
        /// A bridge per node and a VXLAN device between nodes, as flannel does it by default.
        Vxlan = "vxlan",
        /// Pods as slaves of their node's NIC, as the reference plugin `ipvlan` makes them.
        Ipvlan = "ipvlan",
        /// Pods as slaves of their node's NIC with link-layer addresses of their own, as the reference
        /// plugin `macvlan` makes them.
        Macvlan = "macvlan",
        /// kind's own, as the image of the nodes has it.
        Kindnet = "kindnet",
        /// flannel, by its manifest.
        Flannel = "flannel",
        /// Calico, by its manifest.
        Calico = "calico",
        /// Cilium, by its manifest.
        Cilium = "cilium",
        /// Plugins of others, as a network configuration list chains them.
        Exec = "exec",
    }
}

impl CniKind {
    /// Those that nic2pod wires itself. The others come with their own programs: all but
    /// [`CniKind::Exec`]'s need a cluster to run in.
    pub const OWN: &[Self] = &[Self::Ptp, Self::Bridge, Self::Vxlan, Self::Ipvlan, Self::Macvlan];

    /// Whether nic2pod wires it itself.
    pub fn is_own(self) -> bool {
        Self::OWN.contains(&self)
    }

    /// Whether it comes as a manifest for the API server.
    pub fn is_by_manifest(self) -> bool {
        matches!(self, Self::Flannel | Self::Calico | Self::Cilium)
    }
}

words! {
    /// Road a request takes.
    Road {
        /// Client to pod address, through the entry node's NIC.
        Direct = "direct",
        /// Client pod to the Service's cluster address.
        Clusterip = "clusterip",
        /// Client to the entry node's NIC at the Service's NodePort.
        Nodeport = "nodeport",
        /// Client to the Service's LoadBalancer address, routed to the entry node's NIC.
        Lbip = "lbip",
        /// Client to a load balancer outside the cluster, which connects to the nodes' NICs at the
        /// Service's NodePort.
        Loadbalancer = "loadbalancer",
        /// Client to the NodePort of an ingress controller, which asks the Service's cluster address.
        Ingress = "ingress",
        /// The same, but the controller asks the Service's endpoints itself.
        IngressEndpoints = "ingress-endpoints",
    }
}

impl Road {
    /// Whether an ingress controller stands between the client and the pod that answers.
    pub fn is_ingress(self) -> bool {
        matches!(self, Self::Ingress | Self::IngressEndpoints)
    }
}

words! {
    /// Where the pod that answers runs, seen from the node the request enters.
    Place {
        /// On the same node.
        Local = "local",
        /// On another node.
        Remote = "remote",
    }
}

words! {
    /// Where the measured Service stands among the others, in programming order.
    Position {
        /// Before all others.
        First = "first",
        /// Half of the others before it.
        Middle = "middle",
        /// After all others.
        Last = "last",
    }
}

/// A road and the backend's place: `nodeport-remote`. A road alone means `local`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Road a request takes.
    pub road: Road,
    /// Where the backend runs.
    pub place: Place,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.road, self.place)
    }
}

impl FromStr for Route {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(road) = text.parse() {
            return Ok(Self { road, place: Place::Local });
        }
        let (road, place) = text.rsplit_once('-').ok_or_else(|| {
            format!(
                "`{text}` is not a route; write a road and a place, for example `nodeport-remote`"
            )
        })?;
        Ok(Self { road: road.parse()?, place: place.parse()? })
    }
}

impl Serialize for Route {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Route {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One point of the matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Kernel the lab runs on: [`HOST_KERNEL`], or the label of a guest's.
    pub kernel: String,
    /// How Services are implemented.
    pub mode: Mode,
    /// Who writes the mode's rules.
    pub proxy: Proxy,
    /// Which addresses.
    #[serde(default = "ipv4", skip_serializing_if = "is_ipv4")]
    pub ip: IpStack,
    /// How pods are wired.
    pub cni: CniKind,
    /// What plugins of others are called with; of [`CniKind::Exec`], and of no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflist: Option<Conflist>,
    /// Road and place.
    pub route: Route,
    /// Services in the table, the measured one included; at least 1.
    pub services: u32,
    /// Where the measured Service stands among them.
    pub position: Position,
    /// Name of the workload in the profile.
    pub workload: String,
}

fn ipv4() -> IpStack {
    IpStack::Ipv4
}

fn is_ipv4(ip: &IpStack) -> bool {
    *ip == IpStack::Ipv4
}

impl Case {
    /// What stands for the CNI in ids and reports: its word, or `exec-` and the name of its list.
    pub fn cni_label(&self) -> String {
        self.conflist.as_ref().map_or_else(|| self.cni.to_string(), Conflist::label)
    }

    /// Path-like name: `netns/nftables+bridge/nodeport-remote/svc-1000/newconn`. The kernel is named
    /// where it is not the host's, `netns+uml-7.2.13/...`; the measured Service's position where it
    /// is not the usual one, the last; who wrote the rules where it was not nic2pod,
    /// `netns/iptables.kube-proxy+bridge/...`; and other addresses than IPv4's, `netns/iptables.ipv6+bridge/...`.
    pub fn id(&self, lab: &str) -> String {
        let Self { kernel, route, services, position, workload, .. } = self;
        let cni = self.cni_label();
        let mode = self.mode_label();
        let kernel = match kernel.as_str() {
            HOST_KERNEL => String::new(),
            label => format!("+{label}"),
        };
        let place = match position {
            _ if *services == 1 => String::new(),
            Position::Last => String::new(),
            other => format!("-{other}"),
        };
        format!("{lab}{kernel}/{mode}+{cni}/{route}/svc-{services}{place}/{workload}")
    }

    /// The mode, with who writes its rules where that is not nic2pod, `iptables.kube-proxy`, and with the
    /// addresses where they are not those of IPv4, `iptables.ipv6`. What a record and its readers call the
    /// mode, so that no two of these are taken for one.
    pub fn mode_label(&self) -> String {
        let mut label = self.mode.to_string();
        if self.proxy != Proxy::Own {
            label = format!("{label}.{}", self.proxy);
        }
        if self.ip != IpStack::Ipv4 {
            label = format!("{label}.{}", self.ip);
        }
        label
    }
}
