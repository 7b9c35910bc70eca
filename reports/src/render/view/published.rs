// SPDX-License-Identifier: Apache-2.0
//! Published costs of Services, as rows.

use crate::analysis::number::{count, slope, slope_interval, time};
use crate::analysis::published::{FIRST_PACKETS, FIRST_PACKETS_SOURCE, PER_SERVICE};

/// Two small tables and where they are from.
pub(crate) struct Published {
    /// Services, p50, p90, p99.
    pub(crate) first_packets: Vec<[String; 4]>,
    pub(crate) source: &'static str,
    /// Cost, how it follows, source.
    pub(crate) per_service: Vec<[String; 3]>,
}

impl Published {
    pub(crate) fn new() -> Self {
        let us = |us: u32| time(f64::from(us) * 1e3);
        let first_packets = FIRST_PACKETS.iter().map(|row| {
            let services = count(u64::from(row.services));
            [services, us(row.p50_us), us(row.p90_us), us(row.p99_us)]
        });
        let per_service = PER_SERVICE.iter().map(|row| {
            let cost = if row.ns.0 == row.ns.1 { slope(row.ns.0) } else { slope_interval(row.ns) };
            [cost, row.how.to_owned(), row.source.to_owned()]
        });
        Self {
            first_packets: first_packets.collect(),
            source: FIRST_PACKETS_SOURCE,
            per_service: per_service.collect(),
        }
    }
}
