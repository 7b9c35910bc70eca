// SPDX-License-Identifier: Apache-2.0
//! Axes: where a value stands on the canvas, and which values are worth a line.

/// A straight map from values to pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    from: f64,
    to: f64,
    start_px: i32,
    end_px: i32,
}

impl Axis {
    /// Maps `from..=to` to the pixels `start_px..=end_px`; an empty span is widened.
    pub(crate) fn new((from, to): (f64, f64), (start_px, end_px): (i32, i32)) -> Self {
        let to = if to > from { to } else { from + 1.0 };
        Self { from, to, start_px, end_px }
    }

    /// Pixel of a value; values beyond the ends stand at them.
    pub(crate) fn px(&self, value: f64) -> i32 {
        let share = ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        self.start_px + (share * f64::from(self.end_px - self.start_px)).round() as i32
    }
}

/// Values from zero to at least `max` in steps of 1, 2 or 5 times a power of ten: at most `most`
/// steps. The last one is the axis's end.
pub(crate) fn linear_ticks(max: f64, most: u32) -> Vec<f64> {
    if !max.is_finite() || max <= 0.0 || most == 0 {
        return vec![0.0, 1.0];
    }
    let rough = max / f64::from(most);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|m| m * power)
        .into_iter()
        .find(|step| *step >= rough * 0.999_999);
    let step = step.unwrap_or(rough);
    let steps = (max / step - 1e-9).ceil().max(1.0) as u32;
    (0..=steps).map(|i| f64::from(i) * step).collect()
}

/// Round values from at most `min` to at least `max`, evenly spread on a logarithmic axis; both
/// above zero. Over less than two decades they are closer than 1, 2, 5.
pub(crate) fn log_ticks(min: f64, max: f64) -> Vec<f64> {
    let (min, max) = (min.max(1e-3), max.max(min).max(1e-3));
    let decades = (max / min).log10();
    let multiples: &[f64] = match decades {
        d if d < 0.7 => &[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
        d if d < 1.3 => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
        d if d < 3.0 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let (first, last) = (min.log10().floor() as i32 - 1, max.log10().ceil() as i32 + 1);
    let all = (first..=last).flat_map(|p| multiples.iter().map(move |m| m * 10f64.powi(p)));
    let all: Vec<f64> = all.collect();
    let from = all.iter().rposition(|tick| *tick <= min * 1.000_001).unwrap_or(0);
    let to = all.iter().position(|tick| *tick >= max * 0.999_999).unwrap_or(all.len() - 1);
    all[from..=to.max(from)].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(linear_ticks(87.0, 5), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(linear_ticks(0.0, 5), [0.0, 1.0]);
        assert_eq!(log_ticks(70.0, 4000.0), [50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0]);
    }

    proptest! {
        #[test]
        fn ticks_enclose_the_values_and_are_few(a in 1.0f64..1e12, b in 1.0f64..1e12) {
            let (min, max) = (a.min(b), a.max(b));
            let log = log_ticks(min, max);
            prop_assert!(log.len() <= 16 && log.is_sorted());
            prop_assert!(log[0] <= min * 1.001 && *log.last().unwrap() >= max * 0.999);
            let linear = linear_ticks(max, 6);
            prop_assert!(linear.len() <= 8 && *linear.last().unwrap() >= max * 0.999);
        }
    }
}
