// SPDX-License-Identifier: Apache-2.0
//! What the API server holds: Services, of which more may come, and the node.
//!
//! Nothing is ever changed or removed, so that versions are simple: what was there from the beginning has
//! version 1, each Service after it the next number, and a watch from version `n` is told of what is
//! above `n`.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::watch;

use super::objects;
use super::query::Selection;
use super::resource::Resource;
use crate::proxy::{Service, ServiceTable};

/// Version of what was there from the beginning.
const FIRST: u64 = 1;

/// The content.
#[derive(Debug)]
pub(super) struct Store {
    node: (String, IpAddr),
    services: Mutex<Vec<Service>>,
    /// Services that were there from the beginning.
    first: usize,
    newest: watch::Sender<u64>,
}

impl Store {
    pub(super) fn new(table: &ServiceTable, node: &str, address: IpAddr) -> Self {
        Self {
            node: (node.to_owned(), address),
            first: table.services.len(),
            services: Mutex::new(table.services.clone()),
            newest: watch::Sender::new(FIRST),
        }
    }

    /// Adds a Service and wakes those who watch.
    pub(super) fn add(&self, service: Service) {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.push(service);
        let newest = FIRST + (services.len() - self.first) as u64;
        self.newest.send_replace(newest);
    }

    /// The newest version, and a handle to await newer ones.
    pub(super) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Objects above a version that are selected, and the version they are of.
    pub(super) fn above(
        &self,
        version: u64,
        resource: Resource,
        selection: &Selection,
    ) -> (Vec<Value>, u64) {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = FIRST + (services.len() - self.first) as u64;
        let mut found = match resource {
            Resource::Nodes if version < FIRST => vec![objects::node(&self.node.0, self.node.1)],
            Resource::ServiceCidrs if version < FIRST => vec![objects::service_cidr(self.node.1)],
            Resource::Nodes | Resource::ServiceCidrs => Vec::new(),
            _ => {
                let numbered = services.iter().enumerate().map(|(index, service)| {
                    let of = FIRST + (index + 1).saturating_sub(self.first) as u64;
                    (of, service)
                });
                let newer = numbered.filter(|(of, _)| *of > version);
                newer.flat_map(|(of, service)| objects::of_service(resource, service, of)).collect()
            }
        };
        found.retain(|object| selection.takes(object));
        (found, newest)
    }
}
