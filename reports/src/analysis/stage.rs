// SPDX-License-Identifier: Apache-2.0
//! The stages of several cases, lined up.

use record::{CaseRecord, Leg, StageRecord};

use crate::analysis::group::Series;

/// One stage and what it took in each series; none where a series does not have it.
#[derive(Clone, Debug)]
pub struct StageRow<'a> {
    /// Direction of travel.
    pub leg: Leg,
    /// Stage's name.
    pub name: &'a str,
    /// One cell for each series.
    pub cells: Vec<Option<&'a StageRecord>>,
}

/// Stages that pass in the client's own host (its program, its kernel, its reads), and those in which
/// the server is woken and works.
const ENDS: [&str; 11] = [
    "dns",
    "connect",
    "tls",
    "pod_tls",
    "ingress_tls",
    "handover",
    "client_tx",
    "client_rx",
    "body",
    "wakeup",
    "app",
];

/// What a stage behind an ingress controller is called elsewhere.
pub fn beyond_ingress(name: &str) -> Option<&str> {
    name.strip_prefix("up_")
}

/// Whether client or server alone spend a stage's time, so that no network shows in it. `connect`
/// spans a round trip through the node, but the client's kernel and the wait for its processor are
/// most of it; the node's share of it is `first_packet_ns`.
pub fn of_the_ends(name: &str) -> bool {
    name.split('+').all(|part| ENDS.contains(&part))
}

/// Stages of one leg of a case.
pub fn of_leg(case: &CaseRecord, leg: Leg) -> impl Iterator<Item = &StageRecord> {
    case.stages.iter().filter(move |stage| stage.leg == leg)
}

/// Sum of the means of a leg's stages, nanoseconds: means add up, medians do not.
pub fn leg_mean_ns(case: &CaseRecord, leg: Leg) -> f64 {
    of_leg(case, leg).map(|stage| stage.mean_ns).sum()
}

/// The stages of all series in path order, request leg first. A stage only some series have
/// stands behind the stage it follows there.
pub fn rows<'a>(series: &[Series<'a>]) -> Vec<StageRow<'a>> {
    let mut rows: Vec<StageRow<'a>> = Vec::new();
    for leg in [Leg::Request, Leg::Response] {
        let start = rows.len();
        for (column, one) in series.iter().enumerate() {
            let mut after = start;
            for stage in of_leg(one.case, leg) {
                // A name seen twice on a leg is matched with the next row of that name.
                let found = rows[after..].iter().position(|row| row.name == stage.name);
                let found = found.map(|offset| after + offset).or_else(|| {
                    // Another case may have had it earlier on the path.
                    (start..after)
                        .find(|&at| rows[at].name == stage.name && rows[at].cells[column].is_none())
                });
                let at = found.unwrap_or_else(|| {
                    let cells = vec![None; series.len()];
                    rows.insert(after, StageRow { leg, name: &stage.name, cells });
                    after
                });
                rows[at].cells[column] = Some(stage);
                after = after.max(at + 1);
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_the_clients_only_if_all_its_parts_are() {
        assert!(of_the_ends("connect") && of_the_ends("client_rx+body") && of_the_ends("app"));
        assert!(
            !of_the_ends("client_tx+wire") && !of_the_ends("pod_rx+wakeup") && !of_the_ends("")
        );
    }
}
