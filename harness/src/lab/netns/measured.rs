// SPDX-License-Identifier: Apache-2.0
//! The Service a case is about, among all the others.

use super::{Hosts, Ingress, names, road};
use crate::lab::LabError;
use crate::net::addresses::{POD_PORT, POD_TLS_PORT, SERVICES};
use crate::plan::{Case, Profile};
use crate::proxy::{Fill, ServiceTable};

/// Of Service addresses in kind's clusters.
const CLUSTER_PREFIX: u8 = 16;

/// A case's Services, and the pods behind the measured one.
#[derive(Debug)]
pub(in crate::lab) struct Measured {
    /// All Services.
    pub(in crate::lab) table: ServiceTable,
    /// The measured one's index in the table.
    pub(in crate::lab) service: usize,
    /// Indices of the pods that may answer.
    pub(in crate::lab) backends: Vec<usize>,
    /// Port that they answer at.
    pub(in crate::lab) port: u16,
    /// The ingress controller's Service, where the road leads by it.
    pub(in crate::lab) ingress: Option<ByIngress>,
}

/// The Service of an ingress controller.
#[derive(Clone, Copy, Debug)]
pub(in crate::lab) struct ByIngress {
    /// Its index in the table.
    pub(in crate::lab) service: usize,
    /// Port that the controller's pod answers at.
    pub(in crate::lab) port: u16,
}

impl Measured {
    /// Lays a case's Services out.
    ///
    /// # Errors
    /// There are not enough addresses for so many.
    pub(in crate::lab) fn of(
        hosts: &Hosts,
        case: &Case,
        profile: &Profile,
    ) -> Result<Self, LabError> {
        let backends = road::backends(hosts, case.route.place, profile.service.endpoints);
        // All else of the Service is the same with TLS and without.
        let tls = profile.workload[&case.workload].tls.is_some();
        let road = case.route.road;
        let secured = tls && (!road.is_ingress() || profile.lab.ingress_tls.reaches_pods());
        let port = if secured { POD_TLS_PORT } else { POD_PORT };
        let ingress_port = if tls { Ingress::TLS_PORT } else { Ingress::PORT };
        let mut measured = vec![road::service(hosts, road, &backends, port, &profile.service)];
        if road.is_ingress() {
            measured.push(road::ingress_service(hosts, ingress_port));
        }
        let name = measured[0].name.clone();
        let fill = Fill {
            services: case.services,
            endpoints: profile.service.filler_endpoints,
            position: case.position,
            seed: profile.seed,
        };
        // Where names are resolved, the DNS Service is there before all that have names.
        // An API server keeps count of the whole range's addresses: a smaller one then.
        let services = SERVICES.of(hosts.family());
        let within = match hosts.turn {
            Some(_) => services.part(CLUSTER_PREFIX, 0),
            None => services,
        };
        let table = fill
            .table_within(within, names::service(hosts).into_iter().chain(measured).collect())
            .map_err(|error| LabError::Unsound(error.to_string()))?;
        let service = table.services.iter().position(|service| service.name == name);
        let service = service.expect("the table holds what it was filled around");
        // Next to it.
        let ingress =
            road.is_ingress().then_some(ByIngress { service: service + 1, port: ingress_port });
        Ok(Self { table, service, backends, port, ingress })
    }
}
