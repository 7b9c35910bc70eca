// SPDX-License-Identifier: Apache-2.0
//! Hosts of a cluster, lent to a case.

use super::detour::Detour;
use super::reflection::Reflection;
use crate::lab::netns::{Hosts, Released, Site};

/// Handles on the hosts of a cluster, which stays.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) hosts: Hosts,
    /// By way of a router, where the road has one.
    pub(super) detour: Option<Detour>,
    /// Where the cluster's own server has the names.
    pub(super) reflection: Option<Reflection>,
}

impl Site for Lent {
    fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    fn hosts_mut(&mut self) -> &mut Hosts {
        &mut self.hosts
    }

    fn release(self: Box<Self>) -> Released {
        let Self { mut hosts, detour, reflection } = *self;
        let mut errors = hosts.stop_between();
        if let Some(Err(error)) = detour.map(Detour::down) {
            errors.push(error.to_string());
        }
        if let Some(Err(error)) = reflection.map(Reflection::down) {
            errors.push(error.to_string());
        }
        for pod in hosts.pods {
            if let Some(Err(error)) = pod.target.map(crate::net::Agent::down) {
                errors.push(format!("failed to leave the server in {}: {error}", pod.name));
            }
        }
        Released { errors, settle: Box::new(Vec::new) }
    }
}
