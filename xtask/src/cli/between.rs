// SPDX-License-Identifier: Apache-2.0
//! Programs that stand between the client and the pods.

use clap::Args;
use harness::plan::{BalancerKind, IngressKind, IngressTls, Profile};

#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct BetweenArgs {
    /// Load balancer of route loadbalancer: embedded, haproxy, nginx, envoy, router, ipvs
    #[arg(long, value_name = "NAME", value_parser = balancer)]
    pub(crate) balancer: Option<BalancerKind>,
    /// Have the load balancer say by the PROXY protocol whose connections it passes on
    #[arg(long)]
    pub(crate) proxy_protocol: bool,
    /// Ingress controller of routes ingress and ingress-endpoints: embedded, nginx, haproxy
    #[arg(long, value_name = "NAME", value_parser = ingress)]
    pub(crate) ingress: Option<IngressKind>,
    /// TLS at the ingress controller: edge (it ends there), reencrypt (and is spoken with the pods again),
    /// passthrough
    #[arg(long, value_name = "WORD", value_parser = ingress_tls)]
    pub(crate) ingress_tls: Option<IngressTls>,
}

impl BetweenArgs {
    /// Lays them over a profile.
    pub(crate) fn lay_over(self, profile: &mut Profile) {
        let lab = &mut profile.lab;
        lab.balancer = self.balancer.unwrap_or(lab.balancer);
        lab.proxy_protocol |= self.proxy_protocol;
        lab.ingress = self.ingress.unwrap_or(lab.ingress);
        lab.ingress_tls = self.ingress_tls.unwrap_or(lab.ingress_tls);
    }
}

fn balancer(word: &str) -> Result<BalancerKind, String> {
    match word {
        "embedded" => Ok(BalancerKind::Embedded),
        "haproxy" => Ok(BalancerKind::Haproxy),
        "nginx" => Ok(BalancerKind::Nginx),
        "envoy" => Ok(BalancerKind::Envoy),
        "router" => Ok(BalancerKind::Router),
        "ipvs" => Ok(BalancerKind::Ipvs),
        other => {
            Err(format!("`{other}` is not one of embedded, haproxy, nginx, envoy, router, ipvs"))
        }
    }
}

fn ingress_tls(word: &str) -> Result<IngressTls, String> {
    match word {
        "edge" => Ok(IngressTls::Edge),
        "reencrypt" => Ok(IngressTls::Reencrypt),
        "passthrough" => Ok(IngressTls::Passthrough),
        other => Err(format!("`{other}` is not one of edge, reencrypt, passthrough")),
    }
}

fn ingress(word: &str) -> Result<IngressKind, String> {
    match word {
        "embedded" => Ok(IngressKind::Embedded),
        "nginx" => Ok(IngressKind::Nginx),
        "haproxy" => Ok(IngressKind::Haproxy),
        other => Err(format!("`{other}` is not one of embedded, nginx, haproxy")),
    }
}
