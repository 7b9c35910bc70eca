// SPDX-License-Identifier: Apache-2.0
//! What was joined, in the record's words.

use std::collections::BTreeMap;

use record::{Counts, Probe, Walk};

use super::{LabError, LegWalks, QueryWalks, StageTimes, Walks};
use crate::capture::join::{Joined, Passage, Story};
use crate::capture::packet::flags;
use crate::capture::{Site, TapInfo, in_words};

impl Walks {
    /// The joined requests of a block, without counts or a capture file.
    pub(super) fn of(joined: &Joined, probe: Probe, slowest: Vec<Walk>) -> Self {
        let QueryWalks { stages, residual, sampled, joined: of_them, unjoined } =
            QueryWalks::of(joined);
        Self {
            stages,
            residual,
            first_packet: joined.first_packet.histogram(),
            legs: LegWalks {
                request: joined.legs.request.histogram(),
                response: joined.legs.response.histogram(),
            },
            sampled,
            joined: of_them,
            unjoined,
            queries: None,
            probe,
            counts: None,
            slowest,
            pcap: None,
        }
    }
}

impl QueryWalks {
    /// The joined queries of a block.
    pub(super) fn of(joined: &Joined) -> Self {
        let mut residual = BTreeMap::new();
        for &value in &joined.residual_ns {
            *residual.entry(value).or_insert(0) += 1;
        }
        let stage = |stage: &crate::capture::join::StageTimes| StageTimes {
            name: stage.name.clone(),
            leg: stage.leg,
            times: stage.times.histogram(),
        };
        Self {
            stages: joined.stages.iter().map(stage).collect(),
            residual: residual.into_iter().collect(),
            sampled: joined.sampled,
            joined: joined.joined,
            unjoined: joined.unjoined.iter().map(|(why, n)| (why.to_string(), *n)).collect(),
        }
    }
}

/// What a request is made of, as far as probes see it. Segments that only acknowledge come and go with
/// the kernel's timers and are left out.
pub(super) fn counts(story: &Story, probes: &[TapInfo], hooks_seen: bool) -> Counts {
    let site = |passage: &Passage| probes[usize::from(passage.tap)].site;
    let carries =
        |passage: &&Passage| passage.segment.payload_bytes > 0 || passage.segment.has(flags::SYN);
    let passages = || story.passages.iter().filter(carries);
    let at_client = || passages().filter(|passage| site(passage) == Site::ClientEth);
    // A hook is entered once, whatever number of probes it has.
    let enters = |passage: &&Passage| {
        let entrances =
            [Site::PreConntrack, Site::LocalIn, Site::Forward, Site::LocalOut, Site::Postrouting];
        entrances.contains(&site(passage))
    };
    Counts {
        rules_walked: None,
        rules_walked_beyond: None,
        hooks_entered: hooks_seen.then(|| passages().filter(enters).count() as u64),
        probe_hits: Some(passages().count() as u64),
        packets: Some(at_client().count() as u64),
        bytes: Some(at_client().map(|p| u64::from(p.segment.payload_bytes)).sum()),
        conntrack_entries: None,
    }
}

/// A failure of probes or of joining, with all its causes.
pub(super) fn capture_error(error: impl std::error::Error) -> LabError {
    LabError::Capture(in_words(&error))
}
