// SPDX-License-Identifier: Apache-2.0
//! A case in a cluster: as on namespaces, and with an eye on the containers.

use std::cell::RefCell;
use std::rc::Rc;

use record::Walk;

use super::cluster::Cluster;
use crate::Cancel;
use crate::docker::Engine;
use crate::lab::netns::NetnsBed;
use crate::lab::{Bed, Down, Iteration, LabError, Ready};

/// A case in a cluster.
#[derive(Debug)]
pub(super) struct KindBed {
    pub(super) bed: NetnsBed,
    pub(super) cluster: Rc<RefCell<Cluster>>,
    pub(super) engine: Engine,
}

impl KindBed {
    /// Follows one request.
    pub(super) fn trace(&mut self, cancel: &Cancel) -> Result<(Walk, Option<Vec<u8>>), LabError> {
        self.bed.trace(cancel).map_err(|error| self.explained(error))
    }

    /// What went wrong, in terms of the node that ended, if one has.
    fn explained(&self, error: LabError) -> LabError {
        match error {
            LabError::Cancelled => error,
            error => match self.cluster.borrow().ended(&self.engine) {
                Some(ended) => LabError::Unsound(format!("{ended} while it was measured: {error}")),
                None => error,
            },
        }
    }
}

impl Bed for KindBed {
    fn ready(&self) -> &Ready {
        self.bed.ready()
    }

    fn warm_up(&mut self, cancel: &Cancel) -> Result<(), LabError> {
        self.bed.warm_up(cancel).map_err(|error| self.explained(error))
    }

    fn iterate(&mut self, cancel: &Cancel) -> Result<Iteration, LabError> {
        self.bed.iterate(cancel).map_err(|error| self.explained(error))
    }

    fn down(self: Box<Self>) -> Down {
        Box::new(self.bed).down()
    }
}
