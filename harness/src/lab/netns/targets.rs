// SPDX-License-Identifier: Apache-2.0
//! The servers in the pods.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use workloads::protocol::{TargetReply, TargetSpec};

use super::{Hosts, NetnsError};
use crate::certificates::Certificates;
use crate::net::Agent;
use crate::net::addresses::{POD_PORT, POD_TLS_PORT};

/// How long a pod's server may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

impl Hosts {
    /// Starts `program args` as the server in every pod but the one that serves names, and waits until all listen at [`POD_PORT`], and
    /// with certificates at [`POD_TLS_PORT`] too.
    ///
    /// # Errors
    /// One cannot be started, does not listen in time, or says why it cannot.
    pub fn start_targets(
        &mut self,
        program: &Path,
        args: &[&str],
        certificates: Option<&Certificates>,
    ) -> Result<(), NetnsError> {
        let dns = self.dns;
        let second = self.second.as_deref();
        let pods = self.pods.iter_mut().enumerate().filter(|(index, _)| Some(*index) != dns);
        for (index, pod) in pods {
            let also = second.map(|second| second.pods[index].address);
            let addresses: Vec<_> = std::iter::once(pod.address).chain(also).collect();
            let at = |port| addresses.iter().map(|&own| SocketAddr::new(own, port)).collect();
            let spec = TargetSpec {
                listen: at(POD_PORT),
                proxy_protocol: self.proxied,
                tls: certificates.map(|certificates| certificates.target(at(POD_TLS_PORT))),
                pod: pod.name.clone(),
            };
            let failed = |source| NetnsError::Target { pod: pod.name.clone(), source };
            let mut agent = Agent::start(&pod.netns, program, args).map_err(failed)?;
            agent.tell(&spec).map_err(failed)?;
            pod.target = Some(agent);
        }
        for pod in &mut self.pods {
            let Some(agent) = &mut pod.target else { continue };
            let name = pod.name.clone();
            match agent.hear(PATIENCE) {
                Ok(TargetReply::Ready) => {}
                Ok(TargetReply::Failed(reason)) => {
                    return Err(NetnsError::TargetRefused { pod: name, reason });
                }
                Ok(TargetReply::Marks { .. }) => {
                    let reason = "marks before it was ready".to_owned();
                    return Err(NetnsError::TargetRefused { pod: name, reason });
                }
                Err(source) => return Err(NetnsError::Target { pod: name, source }),
            }
        }
        Ok(())
    }
}
