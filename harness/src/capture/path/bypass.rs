// SPDX-License-Identifier: Apache-2.0
//! Walks that pass the entry node's network stack by: under ipvlan, to and from a pod's own address, and
//! under macvlan from pod to pod of one node.
//!
//! A frame for a slave goes from the NIC's receive handler to the slave (`ipvlan_handle_mode_l2()`),
//! one that a slave sends goes to the NIC's queue, or, between slaves of one NIC, straight to the
//! other (`ipvlan_xmit_mode_l2()`): no hook, no route, no connection tracking. A macvlan slave has a
//! link-layer address of its own, which nobody but its node and its neighbours sends to
//! (`macvlan_queue_xmit()`).

use super::walk::{Stretch, Walk};
use super::{Direction, Host, Site};

impl Walk {
    /// Whether no node's stack sees any of a stretch. A client outside reaches pods of other nodes through
    /// the entry node's stack.
    pub(super) fn passes_by(&self, stretch: &Stretch) -> bool {
        let Stretch { to_service, local, from_pod, .. } = *stretch;
        !to_service && (self.ipvlan && (local || from_pod) || self.macvlan && local && from_pod)
    }

    pub(super) fn there_past(&mut self) {
        let Stretch { from_pod, local, .. } = self.here;
        match (from_pod, local) {
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
        self.arrive(if local { "cni" } else { "deliver" });
    }

    pub(super) fn back_past(&mut self) {
        let Stretch { from_pod, local, .. } = self.here;
        let home = match (from_pod, local) {
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
        self.return_home(home);
    }
}
