// SPDX-License-Identifier: Apache-2.0
//! Where modes overtake each other, in words.

use crate::analysis::crossing::{Crossing, Pair, pairs};
use crate::analysis::number::{count, percent, prose_list};
use crate::analysis::slope::{Family, Metric};

/// The crossings of one time.
pub(crate) struct CrossingsView {
    pub(crate) name: &'static str,
    /// A sentence for each crossing that was found.
    pub(crate) found: Vec<String>,
    /// Sentences about the pairs that have none.
    pub(crate) none: Vec<String>,
}

impl CrossingsView {
    /// Those of all times in which modes can overtake each other.
    pub(crate) fn of(family: &Family<'_>) -> Vec<Self> {
        let several = family.positions();
        let view = |metric: Metric| {
            let pairs = pairs(family, metric);
            (!pairs.is_empty()).then(|| Self::new(metric, &pairs, several))
        };
        [Metric::FirstPacket, Metric::Latency, Metric::PerRequest]
            .into_iter()
            .filter_map(view)
            .collect()
    }

    fn new(metric: Metric, pairs: &[Pair<'_>], several: bool) -> Self {
        let name = |pair: &Pair<'_>| {
            let place = if several { format!(" ({})", pair.few.position) } else { String::new() };
            format!("{} before {}{place}", pair.few.mode, pair.many.mode)
        };
        let found =
            pairs.iter().filter(|pair| pair.located()).filter_map(|pair| found(pair, several));
        let mut none = Vec::new();
        let (mut settled, mut single, mut open) = (Vec::new(), Vec::new(), Vec::new());
        let mut most = (u32::MAX, 0);
        for pair in pairs {
            let Crossing::Nowhere { in_resamples } = pair.crossing else {
                if !pair.located() {
                    open.push(name(pair));
                }
                continue;
            };
            most = (most.0.min(pair.measured.1), most.1.max(pair.measured.1));
            match in_resamples {
                _ if pair.crossing.settled() => settled.push(name(pair)),
                None => single.push(name(pair)),
                Some(share) => none.push(format!(
                    "{}: none up to {} Services, though {} of the resamples have one.",
                    name(pair),
                    count(u64::from(pair.measured.1)),
                    percent(share)
                )),
            }
        }
        if !open.is_empty() {
            let pairs = prose_list(&open);
            none.push(format!(
                "Not settled, since the fits cross but may do so anywhere among the Services measured: {pairs}."
            ));
        }
        let up_to = || count(u64::from(most.1));
        if !single.is_empty() {
            let pairs = prose_list(&single);
            none.insert(
                0,
                format!("None up to {} Services, without an interval: {pairs}.", up_to()),
            );
        }
        if !settled.is_empty() {
            none.insert(0, format!("None up to {} Services: {}.", up_to(), prose_list(&settled)));
        }
        Self { name: metric.name(), found: found.collect(), none }
    }
}

fn found(pair: &Pair<'_>, several: bool) -> Option<String> {
    let Crossing::At { services, interval } = pair.crossing else { return None };
    let (least, most) = pair.measured;
    let whole = |services: f64| count(services.round().max(1.0) as u64);
    let end = |at: f64| match at {
        at if at <= f64::from(least) => format!("{} or fewer", whole(at)),
        at if at >= f64::from(most) => format!("{} or more", whole(at)),
        at => whole(at),
    };
    let interval = match interval {
        Some((low, high)) => format!("95 %: {} to {}", end(low), end(high)),
        None => "no interval: the record keeps no iterations of it".to_owned(),
    };
    let place =
        if several { format!(", measured Service {}", pair.few.position) } else { String::new() };
    Some(format!(
        "{} is ahead up to {} Services, {} from there on ({interval}){place}.",
        pair.few.mode,
        whole(services),
        pair.many.mode
    ))
}
