// SPDX-License-Identifier: Apache-2.0
//! Hosts of a cluster, lent to a case.

use crate::lab::netns::{Hosts, Released, Site};

/// Handles on the hosts of a cluster, which stays.
#[derive(Debug)]
pub(super) struct Lent(pub(super) Hosts);

impl Site for Lent {
    fn hosts(&self) -> &Hosts {
        &self.0
    }

    fn hosts_mut(&mut self) -> &mut Hosts {
        &mut self.0
    }

    fn release(self: Box<Self>) -> Released {
        let mut errors = Vec::new();
        for pod in self.0.pods {
            if let Some(Err(error)) = pod.target.map(crate::net::Agent::down) {
                errors.push(format!("failed to leave the server in {}: {error}", pod.name));
            }
        }
        Released { errors, settle: Box::new(Vec::new) }
    }
}
