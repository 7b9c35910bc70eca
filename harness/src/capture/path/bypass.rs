// SPDX-License-Identifier: Apache-2.0
//! Walks that pass the entry node's network stack by: under ipvlan, to and from a pod's own address, and
//! under macvlan from pod to pod of one node.
//!
//! A frame for a slave goes from the NIC's receive handler to the slave (`ipvlan_handle_mode_l2()`),
//! one that a slave sends goes to the NIC's queue, or, between slaves of one NIC, straight to the
//! other (`ipvlan_xmit_mode_l2()`): no hook, no route, no connection tracking. A macvlan slave has a
//! link-layer address of its own, which nobody but its node and its neighbours sends to
//! (`macvlan_queue_xmit()`).

use record::Leg;

use super::{Direction, Host, Site, Walk};

impl Walk {
    /// Whether no node's stack sees any of the walk. A client outside reaches pods of other nodes through
    /// the entry node's stack.
    pub(super) fn is_bypass(&self) -> bool {
        let own = !self.to_service;
        own && (self.ipvlan && (self.local || self.from_pod)
            || self.macvlan && self.local && self.from_pod)
    }

    pub(super) fn bypass(&mut self) {
        self.hop("client_tx", Host::Client, Site::ClientEth, Direction::Out);
        match (self.from_pod, self.local) {
            (false, _) => {
                let wire = self.through_balancer();
                self.hop(wire, Host::Entry, Site::Nic, Direction::In);
            }
            (true, true) => {}
            (true, false) => {
                self.hop("wire", Host::Entry, Site::Nic, Direction::Out);
                self.hop("fabric", Host::Backend, Site::Nic, Direction::In);
            }
        }
        let last = if self.local { "cni" } else { "deliver" };
        self.hop(last, Host::Pod, Site::PodEth, Direction::In);
        self.hop("pod_rx", Host::Pod, Site::Readable, Direction::In);
        self.leg = Leg::Response;
        self.hop("pod_tx", Host::Pod, Site::PodEth, Direction::Out);
        let home = match (self.from_pod, self.local) {
            (false, _) => {
                self.hop("cni", Host::Entry, Site::Nic, Direction::Out);
                self.through_balancer()
            }
            (true, true) => "cni",
            (true, false) => {
                self.hop("deliver", Host::Backend, Site::Nic, Direction::Out);
                self.hop("fabric", Host::Entry, Site::Nic, Direction::In);
                "wire"
            }
        };
        self.hop(home, Host::Client, Site::ClientEth, Direction::In);
    }
}
