// SPDX-License-Identifier: Apache-2.0
//! tbf: a wire of a given rate (`net/sched/sch_tbf.c`, tc-tbf(8)).

use std::fmt;

use super::bytes::{attributes, push, u32_at, u64_at, words};
use super::netem::TICK_NS;

// linux/pkt_sched.h
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
/// `TC_LINKLAYER_ETHERNET`: the kernel computes with the rate and wants no table of times.
const ETHERNET: u8 = 1;
/// Words of `struct tc_tbf_qopt`: rate and peak rate of three words each, limit, buffer, mtu.
const LIMIT: usize = 6;
const BUFFER: usize = 7;

/// A wire of a given rate. Packets larger than the burst are cut up first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tbf {
    /// Bytes a second.
    pub rate_bytes_per_s: u64,
    /// Bytes that may go at once after a pause.
    pub burst_bytes: u32,
    /// Bytes that may wait; more are lost.
    pub limit_bytes: u32,
}

impl Tbf {
    /// Whether this, read back from the kernel, does what `wanted` asks for. The kernel keeps the
    /// burst as a time.
    pub(super) fn does(&self, wanted: &Self) -> bool {
        let slack = wanted.burst_bytes / 50 + 64;
        self.rate_bytes_per_s == wanted.rate_bytes_per_s
            && self.limit_bytes == wanted.limit_bytes
            && self.burst_bytes.abs_diff(wanted.burst_bytes) <= slack
    }

    /// Content of `TCA_OPTIONS`.
    pub(super) fn options(&self) -> Vec<u8> {
        let rate = u32::try_from(self.rate_bytes_per_s).unwrap_or(u32::MAX);
        let layer = u32::from_ne_bytes([0, ETHERNET, 0, 0]);
        let parms = words(&[layer, 0, rate, 0, 0, 0, self.limit_bytes, 0, 0]);
        let mut bytes = Vec::new();
        push(&mut bytes, TCA_TBF_PARMS, &parms);
        push(&mut bytes, TCA_TBF_BURST, &self.burst_bytes.to_ne_bytes());
        if self.rate_bytes_per_s > u32::MAX.into() {
            push(&mut bytes, TCA_TBF_RATE64, &self.rate_bytes_per_s.to_ne_bytes());
        }
        bytes
    }

    /// Reads what the kernel says of itself (`tbf_dump`).
    pub(super) fn parse(options: &[u8]) -> Option<Self> {
        let mut tbf = Self::default();
        let mut buffer_ns = 0;
        for (kind, value) in attributes(options) {
            match kind {
                TCA_TBF_PARMS => {
                    tbf.rate_bytes_per_s = tbf.rate_bytes_per_s.max(u32_at(value, 8)?.into());
                    tbf.limit_bytes = u32_at(value, LIMIT * 4)?;
                    buffer_ns = u64::from(u32_at(value, BUFFER * 4)?) * TICK_NS;
                }
                TCA_TBF_RATE64 => tbf.rate_bytes_per_s = u64_at(value, 0)?,
                _ => {}
            }
        }
        let burst = u128::from(buffer_ns) * u128::from(tbf.rate_bytes_per_s) / 1_000_000_000;
        tbf.burst_bytes = u32::try_from(burst).ok()?;
        Some(tbf)
    }
}

impl fmt::Display for Tbf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate_bytes_per_s, burst_bytes, limit_bytes } = self;
        write!(f, "tbf rate {rate_bytes_per_s}bps burst {burst_bytes}b limit {limit_bytes}b")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_word_is_read() {
        // 125,000 bytes are a millisecond of 125 MB/s: 15,625 ticks.
        let layer = u32::from_ne_bytes([0, ETHERNET, 0, 0]);
        let parms = words(&[layer, 0, 125_000_000, 0, 0, 0, 6_375_000, 15_625, 0]);
        let mut options = Vec::new();
        push(&mut options, TCA_TBF_PARMS, &parms);
        let wanted =
            Tbf { rate_bytes_per_s: 125_000_000, burst_bytes: 125_000, limit_bytes: 6_375_000 };
        let found = Tbf::parse(&options).expect("whole");
        assert!(found.does(&wanted), "{found:?}");
        assert!(!found.does(&Tbf { rate_bytes_per_s: 1, ..wanted.clone() }));
        assert!(!found.does(&Tbf { burst_bytes: 12_500, ..wanted }));
    }

    #[test]
    fn it_shows_as_tc_would_be_told() {
        let tbf = Tbf { rate_bytes_per_s: 1_250_000, burst_bytes: 3028, limit_bytes: 65_536 };
        assert_eq!(tbf.to_string(), "tbf rate 1250000bps burst 3028b limit 65536b");
    }
}
