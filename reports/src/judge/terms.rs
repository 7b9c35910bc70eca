// SPDX-License-Identifier: Apache-2.0
//! What a comparison is held to.

use crate::judge::looks::LOOKS_MAX;

/// What a comparison is held to. The defaults are the gate's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Share of comparisons without a difference that may be called one, over all metrics and looks
    /// of a comparison: 0.01 is one in a hundred.
    pub alpha: f64,
    /// Smallest change worth a word, as a share: at 0.02, times within 2 % are the same.
    pub minimum_effect: f64,
    /// How often the figures may be looked at before the last one; each look has its part of `alpha`.
    pub looks: u32,
    /// Whether block i of A ran beside block i of B.
    pub paired: bool,
    /// Seed of the resampling: the same figures give the same interval.
    pub seed: u64,
}

impl Default for Terms {
    fn default() -> Self {
        Self { alpha: 0.01, minimum_effect: 0.02, looks: LOOKS_MAX, paired: true, seed: 1 }
    }
}

impl Terms {
    /// The part of `alpha` that one look has (Bonferroni): stopping at the first look that shows a
    /// difference is then no way to find one that is not there.
    pub fn alpha_of_look(&self) -> f64 {
        self.alpha / f64::from(self.looks.max(1))
    }

    /// The minimum effect as a logarithm of a ratio. Symmetric: 2 % slower and 2 % faster again is
    /// where one began.
    pub fn margin(&self) -> f64 {
        self.minimum_effect.ln_1p()
    }
}
