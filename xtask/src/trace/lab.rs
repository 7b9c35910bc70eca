// SPDX-License-Identifier: Apache-2.0
//! Where a trace comes from: one request through a lab of network namespaces.

use std::path::Path;

use anyhow::{Result, bail};
use harness::Cancel;
use harness::plan::{Case, Profile};
use record::Walk;

/// Builds the case's lab, makes one request through it and says every place it passed; beside each
/// walk a pcapng of its packets, where `pcap` asks for one. `program` is this program's file, which
/// the lab's hosts run as agents.
///
/// # Errors
/// [`harness::Unavailable`] where the machine lacks something, anything else where it should have
/// worked.
pub(super) fn walk(
    _profile: &Profile,
    case: &Case,
    _program: &Path,
    _pcap: bool,
    _cancel: &Cancel,
) -> Result<Vec<(Walk, Option<Vec<u8>>)>> {
    bail!("failed to trace {}: this build cannot follow a request yet", case.id("netns"))
}
