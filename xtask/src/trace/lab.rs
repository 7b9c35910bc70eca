// SPDX-License-Identifier: Apache-2.0
//! Where a trace comes from: one request through a lab of network namespaces.

use std::path::Path;

use anyhow::Result;
use harness::Cancel;
use harness::lab::netns::NetnsBeds;
use harness::plan::{ArrivalKind, Case, Profile};
use record::Walk;
use workloads::protocol::Connection;

/// Builds the case's lab, makes one request through it and says every place it passed; beside each
/// walk a pcapng of its packets, where `pcap` asks for one. `program` is this program's file, which
/// the lab's hosts run as agents.
///
/// # Errors
/// [`harness::Unavailable`] where the machine lacks something, anything else where it should have
/// worked.
pub(super) fn walk(
    profile: &Profile,
    case: &Case,
    program: &Path,
    pcap: bool,
    cancel: &Cancel,
) -> Result<Vec<(Walk, Option<Vec<u8>>)>> {
    let mut profile = profile.clone();
    // One connection, one request: whatever the workload does besides is not what is looked at.
    if let Some(workload) = profile.workload.get_mut(&case.workload) {
        workload.arrival = ArrivalKind::Closed;
        workload.connection = Connection::Newconn;
        workload.connections = 1;
    }
    let beds = NetnsBeds::thorough(&profile, program, pcap)?;
    Ok(vec![beds.trace(case, cancel)?])
}
