// SPDX-License-Identifier: Apache-2.0
//! Programs that stand between the client and the pods.

use clap::Args;
use harness::plan::{BalancerKind, IngressKind, Profile};

#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct BetweenArgs {
    /// Load balancer of route loadbalancer: embedded, haproxy, nginx
    #[arg(long, value_name = "NAME", value_parser = balancer)]
    pub(crate) balancer: Option<BalancerKind>,
    /// Ingress controller of routes ingress and ingress-endpoints: embedded, nginx, haproxy
    #[arg(long, value_name = "NAME", value_parser = ingress)]
    pub(crate) ingress: Option<IngressKind>,
}

impl BetweenArgs {
    /// Lays them over a profile.
    pub(crate) fn lay_over(self, profile: &mut Profile) {
        let lab = &mut profile.lab;
        lab.balancer = self.balancer.unwrap_or(lab.balancer);
        lab.ingress = self.ingress.unwrap_or(lab.ingress);
    }
}

fn balancer(word: &str) -> Result<BalancerKind, String> {
    match word {
        "embedded" => Ok(BalancerKind::Embedded),
        "haproxy" => Ok(BalancerKind::Haproxy),
        "nginx" => Ok(BalancerKind::Nginx),
        other => Err(format!("`{other}` is not one of embedded, haproxy, nginx")),
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
