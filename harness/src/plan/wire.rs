// SPDX-License-Identifier: Apache-2.0
//! What the wire between the client outside and the nodes does, in each direction.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::{Share, Span};

/// Longest delay, milliseconds: half the way to the moon and back.
const DELAY_MS_MAX: u64 = 1200;
/// Rates that the kernel's queues keep, megabits a second.
const RATE_MBIT: std::ops::RangeInclusive<f64> = 0.1..=100_000.0;

/// A profile's `[lab.wire]`: a wire that resembles a network's. Everything neutral, it is the veth
/// pairs' own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireSettings {
    /// Time each packet takes.
    pub delay: Span,
    /// Most that is added to it or taken off it.
    pub jitter: Span,
    /// Share of packets that is lost.
    pub loss: Share,
    /// Share of packets that overtakes those before it.
    pub reorder: Share,
    /// Rate, megabits a second; 0 is as fast as packets come.
    pub rate_mbit: f64,
}

impl WireSettings {
    /// Whether there is nothing to do.
    pub fn is_plain(&self) -> bool {
        self.does_not_touch_packets() && self.rate_mbit == 0.0
    }

    /// Whether all there is to do is to be slow.
    pub fn is_rate_only(&self) -> bool {
        self.does_not_touch_packets() && self.rate_mbit > 0.0
    }

    /// Whether anything is left to chance.
    pub fn has_chance(&self) -> bool {
        self.jitter.nanos() > 0 || self.loss.0 > 0.0 || self.reorder.0 > 0.0
    }

    fn does_not_touch_packets(&self) -> bool {
        self.delay.nanos() == 0 && !self.has_chance()
    }

    /// What cannot be, with the key to change.
    ///
    /// # Errors
    /// The key's name within the table, and what is wrong with its value.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let Self { delay, jitter, reorder, rate_mbit, .. } = self;
        if delay.millis() > DELAY_MS_MAX {
            return Err(("delay", format!("{delay} is more than {DELAY_MS_MAX}ms")));
        }
        if jitter > delay {
            let message = format!("{jitter} is more than delay, {delay}: packets would be early");
            return Err(("jitter", message));
        }
        if reorder.0 > 0.0 && delay.nanos() == 0 {
            let message = "without delay there is no packet under way to overtake";
            return Err(("reorder", message.to_owned()));
        }
        if *rate_mbit != 0.0 && !RATE_MBIT.contains(rate_mbit) {
            let message = format!("{rate_mbit} is neither 0 nor between 0.1 and 100000");
            return Err(("rate_mbit", message));
        }
        Ok(())
    }
}

impl fmt::Display for WireSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delay, jitter, loss, reorder, rate_mbit } = self;
        let parts = [
            (delay.nanos() > 0).then(|| format!("{delay} delay")),
            (jitter.nanos() > 0).then(|| format!("{jitter} jitter")),
            (loss.0 > 0.0).then(|| format!("{loss} lost")),
            (reorder.0 > 0.0).then(|| format!("{reorder} reordered")),
            (*rate_mbit > 0.0).then(|| format!("{rate_mbit} Mbit/s")),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}
