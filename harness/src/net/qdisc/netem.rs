// SPDX-License-Identifier: Apache-2.0
//! netem: what happens to packets on a wire (`net/sched/sch_netem.c`, tc-netem(8)).

use std::fmt;

use super::bytes::{attributes, push, u32_at, u64_at, words};

// linux/pkt_sched.h
const TCA_NETEM_CORR: u16 = 1;
const TCA_NETEM_REORDER: u16 = 3;
const TCA_NETEM_RATE: u16 = 6;
const TCA_NETEM_RATE64: u16 = 8;
const TCA_NETEM_LATENCY64: u16 = 10;
const TCA_NETEM_JITTER64: u16 = 11;
const TCA_NETEM_PRNG_SEED: u16 = 14;
/// Length of `struct tc_netem_qopt`: latency, limit, loss, gap, duplicate, jitter.
const QOPT: usize = 24;
/// A tick of the packet scheduler, nanoseconds (`PSCHED_SHIFT`).
pub(super) const TICK_NS: u64 = 64;

/// A wire. Shares are of 2^32.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Netem {
    /// Packets held at most; more are lost.
    pub limit_packets: u32,
    /// Time each takes, nanoseconds.
    pub delay_ns: u64,
    /// Most that is added to it or taken off it, evenly spread, nanoseconds.
    pub jitter_ns: u64,
    /// Share that is lost.
    pub loss: u32,
    /// Share that is sent on at once, ahead of those that wait.
    pub reorder: u32,
    /// Bytes a second; 0 is as fast as they come.
    pub rate_bytes_per_s: u64,
    /// Seed of the choices; `None` read back from a kernel before 6.6, which has none.
    pub seed: Option<u64>,
}

impl Netem {
    /// A share between 0 and 1 as the kernel counts it.
    pub fn share(share: f64) -> u32 {
        // Saturates at the type's ends.
        (share * f64::from(u32::MAX)).round() as u32
    }

    /// Whether this, read back from the kernel, does what `wanted` asks for: all of it but the
    /// seed where the kernel has none.
    pub(super) fn does(&self, wanted: &Self) -> bool {
        let seed = self.seed.and(wanted.seed);
        *self == Self { seed, ..wanted.clone() }
    }

    /// Content of `TCA_OPTIONS`.
    pub(super) fn options(&self) -> Vec<u8> {
        let ticks = |ns: u64| u32::try_from(ns / TICK_NS).unwrap_or(u32::MAX);
        // Without a gap nothing is reordered; with one of 1 each packet may be (`netem_enqueue`).
        let gap = u32::from(self.reorder > 0);
        let (latency, jitter) = (ticks(self.delay_ns), ticks(self.jitter_ns));
        let mut bytes = words(&[latency, self.limit_packets, self.loss, gap, 0, jitter]);
        push(&mut bytes, TCA_NETEM_CORR, &words(&[0; 3]));
        if self.reorder > 0 {
            push(&mut bytes, TCA_NETEM_REORDER, &words(&[self.reorder, 0]));
        }
        if self.rate_bytes_per_s > 0 {
            let rate = u32::try_from(self.rate_bytes_per_s).unwrap_or(u32::MAX);
            push(&mut bytes, TCA_NETEM_RATE, &words(&[rate, 0, 0, 0]));
            if self.rate_bytes_per_s > u32::MAX.into() {
                let rate = self.rate_bytes_per_s.to_ne_bytes();
                push(&mut bytes, TCA_NETEM_RATE64, &rate);
            }
        }
        push(&mut bytes, TCA_NETEM_LATENCY64, &self.delay_ns.to_ne_bytes());
        push(&mut bytes, TCA_NETEM_JITTER64, &self.jitter_ns.to_ne_bytes());
        if let Some(seed) = self.seed {
            push(&mut bytes, TCA_NETEM_PRNG_SEED, &seed.to_ne_bytes());
        }
        bytes
    }

    /// Reads what the kernel says of itself (`netem_dump`).
    pub(super) fn parse(options: &[u8]) -> Option<Self> {
        let word = |at: usize| u32_at(options, at * 4);
        let mut netem = Self {
            delay_ns: u64::from(word(0)?) * TICK_NS,
            limit_packets: word(1)?,
            loss: word(2)?,
            jitter_ns: u64::from(word(5)?) * TICK_NS,
            ..Self::default()
        };
        let gap = word(3)?;
        for (kind, value) in attributes(options.get(QOPT..)?) {
            match kind {
                TCA_NETEM_REORDER if gap > 0 => netem.reorder = u32_at(value, 0)?,
                // Both are there when 32 bits do not hold it, the wider one first.
                TCA_NETEM_RATE if netem.rate_bytes_per_s == 0 => {
                    netem.rate_bytes_per_s = u32_at(value, 0)?.into();
                }
                TCA_NETEM_RATE64 => netem.rate_bytes_per_s = u64_at(value, 0)?,
                TCA_NETEM_LATENCY64 => netem.delay_ns = u64_at(value, 0)?,
                TCA_NETEM_JITTER64 => netem.jitter_ns = u64_at(value, 0)?,
                TCA_NETEM_PRNG_SEED => netem.seed = u64_at(value, 0),
                _ => {}
            }
        }
        Some(netem)
    }
}

impl fmt::Display for Netem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: u32| f64::from(share) / f64::from(u32::MAX) * 100.0;
        write!(f, "netem limit {} delay {}ns", self.limit_packets, self.delay_ns)?;
        if self.jitter_ns > 0 {
            write!(f, " {}ns", self.jitter_ns)?;
        }
        if self.loss > 0 {
            write!(f, " loss {:.4}%", percent(self.loss))?;
        }
        if self.reorder > 0 {
            write!(f, " reorder {:.4}% gap 1", percent(self.reorder))?;
        }
        if self.rate_bytes_per_s > 0 {
            write!(f, " rate {}bps", self.rate_bytes_per_s)?;
        }
        match self.seed {
            Some(seed) => write!(f, " seed {seed}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> Netem {
        Netem {
            limit_packets: 1000,
            delay_ns: 2_000_001,
            jitter_ns: 200_000,
            loss: Netem::share(0.01),
            reorder: Netem::share(0.25),
            rate_bytes_per_s: 12_500_000_000,
            seed: Some(7),
        }
    }

    #[test]
    fn a_wire_is_read_as_it_was_written() {
        assert_eq!(Netem::parse(&wire().options()), Some(wire()));
        let plain = Netem { limit_packets: 10, ..Netem::default() };
        assert_eq!(Netem::parse(&plain.options()), Some(plain));
        assert_eq!(Netem::parse(&[0; 20]), None);
    }

    #[test]
    fn a_kernel_without_seeds_does_the_rest() {
        let found = Netem { seed: None, ..wire() };
        assert!(found.does(&wire()));
        assert!(!Netem { loss: 0, ..found }.does(&wire()));
        assert!(!Netem { seed: Some(8), ..wire() }.does(&wire()));
    }

    #[test]
    fn it_shows_as_tc_would_be_told() {
        assert_eq!(
            wire().to_string(),
            "netem limit 1000 delay 2000001ns 200000ns loss 1.0000% reorder 25.0000% gap 1 \
             rate 12500000000bps seed 7"
        );
    }
}
