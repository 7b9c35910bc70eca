// SPDX-License-Identifier: Apache-2.0
//! What stands between a client and the pods that answer, where a road leads by it: put there and started.

use super::beds::Ground;
use super::{Balancer, Hosts, Ingress, Measured};
use crate::lab::LabError;
use crate::plan::Case;

impl Hosts {
    /// Has a host of that namespace be the load balancer of a case.
    #[cfg(feature = "kind")]
    pub(in crate::lab) fn put_balancer(
        &mut self,
        netns: crate::net::Netns,
        case: &Case,
        profile: &crate::plan::Profile,
    ) {
        let count = self.nodes.len() as u32;
        let nodes = super::road::balanced(case, count, profile.service.external_policy);
        let nodes = nodes.into_iter().map(|node| node as usize).collect();
        self.balancer = Some(Balancer::new(netns, nodes, profile.lab.balancer.routes()));
        self.proxied = profile.lab.proxy_protocol;
    }

    /// Has a pod besides serve names: the cluster's own, or one that is told them.
    #[cfg(feature = "kind")]
    pub(in crate::lab) fn put_dns(&mut self, pod: super::Pod, is_the_clusters: bool) {
        let (name, node) = (&pod.name, &self.nodes[pod.node].name);
        self.notes.push(if is_the_clusters {
            format!(
                "names are served by the cluster's own {name} on {node}; rules in it have answers carry their query's \
                 type of service, which is part of dns_server"
            )
        } else {
            format!("names are served by nic2pod's own server on {node}")
        });
        self.dns = Some(self.pods.len());
        self.dns_is_the_clusters = is_the_clusters;
        self.pods.push(pod);
    }

    /// Ends the load balancer and the ingress controller. Returns what went wrong.
    pub(in crate::lab) fn stop_between(&mut self) -> Vec<String> {
        let balancer = self.balancer.as_mut().map(Balancer::stop);
        let ingress = self.ingress.take().map(Ingress::stop);
        let ended = [balancer, ingress].into_iter().flatten();
        ended.filter_map(Result::err).map(|error| error.to_string()).collect()
    }

    /// Starts the load balancer and the ingress controller of a case that has them.
    ///
    /// # Errors
    /// A program cannot be started or does not listen.
    pub(in crate::lab) fn start_between(
        &mut self,
        ground: &Ground,
        case: &Case,
        measured: &Measured,
    ) -> Result<(), LabError> {
        let lab = &ground.profile.lab;
        let programs = (&*ground.program, ground.scratch.path());
        self.start_balancer(lab.balancer, programs, case, measured)?;
        if case.route.road.is_ingress() {
            let certificates = ground.certificates_for(case)?;
            let tls = certificates.map(|made| (lab.ingress_tls, made));
            let protocol = ground.profile.workload[&case.workload].protocol;
            self.start_ingress(lab.ingress, programs, case, measured, (protocol, tls))?;
        }
        Ok(())
    }
}
