// SPDX-License-Identifier: Apache-2.0
//! A client's way to one address by a router, for as long as a case lasts.

use std::net::IpAddr;

use super::node::NIC;
use crate::net::{Change, Cidr, NetError, Netns, Route};

/// A route on a client that stays. Dropped, it goes, and nothing is said.
#[derive(Debug)]
pub(super) struct Detour {
    client: Netns,
    /// There until `down`.
    route: Option<Route>,
}

impl Detour {
    /// Leads a client's packets to an address through a neighbour.
    pub(super) fn up(client: Netns, to: IpAddr, router: IpAddr) -> Result<Self, NetError> {
        let route = Route::via_on_link(Cidr::host(to), router, NIC);
        client.apply(vec![Change::Route(route.clone())])?;
        Ok(Self { client, route: Some(route) })
    }

    /// Lets them go as they went before.
    pub(super) fn down(mut self) -> Result<(), NetError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), NetError> {
        let Some(route) = self.route.take() else { return Ok(()) };
        self.client.apply(vec![Change::DeleteRoute(route)])
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        // The last resort of a guard whose owner did not call `down`; nobody is left to tell.
        let _ = self.end();
    }
}
