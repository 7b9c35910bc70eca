// SPDX-License-Identifier: Apache-2.0
//! A distribution as a curve over percentiles, thinned to what a chart can show.

use record::Histogram;

/// A point of the quantile function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Nines of the percentile: 1 is 90 %, 2 is 99 %, `-log10(1 - q)`.
    pub nines: f64,
    /// Value at it, nanoseconds.
    pub value_ns: u64,
}

/// The quantile function as steps, at most two points for each of `columns` columns. The largest
/// value stands at the last percentile that `n` values can tell apart, `1 - 1/n`.
pub fn curve(histogram: &Histogram, columns: usize) -> Vec<Point> {
    let total = histogram.count() as f64;
    let end = total.log10();
    if histogram.is_empty() || columns == 0 {
        return Vec::new();
    }
    let nines = |seen: u64| {
        let above = 1.0 - seen as f64 / total;
        if above <= 0.0 { end } else { (-above.log10()).min(end) }
    };
    let column = |point: &Point| ((point.nines / end.max(1e-9)) * columns as f64) as usize;
    let mut seen = 0;
    let mut points: Vec<Point> = Vec::with_capacity(columns * 2);
    for &(value_ns, count) in histogram.buckets() {
        for edge in [seen, seen + count] {
            let point = Point { nines: nines(edge), value_ns };
            match points.as_mut_slice() {
                // A third point of a column takes the second's place.
                [.., a, b] if column(a) == column(b) && column(b) == column(&point) => *b = point,
                _ => points.push(point),
            }
        }
        seen += count;
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ten_values_reach_to_ninety_percent() {
        let points = curve(&Histogram::from_pairs((1..=10).map(|v| (v, 1))), 100);
        assert_eq!(points.first().unwrap(), &Point { nines: 0.0, value_ns: 1 });
        assert_eq!(points.last().unwrap(), &Point { nines: 1.0, value_ns: 10 });
    }

    #[test]
    fn an_empty_histogram_has_no_curve() {
        assert_eq!(curve(&Histogram::default(), 100), []);
    }

    proptest! {
        #[test]
        fn a_curve_never_falls_and_stays_small(
            pairs in prop::collection::vec((1u64..1_000_000_000, 1u64..1000), 1..2000),
        ) {
            let histogram = Histogram::from_pairs(pairs);
            let points = curve(&histogram, 50);
            prop_assert!(points.len() <= 102);
            prop_assert!(points.is_sorted_by(|a, b| a.nines <= b.nines && a.value_ns <= b.value_ns));
            prop_assert_eq!(points.last().unwrap().value_ns, histogram.buckets().last().unwrap().0);
            prop_assert!(points.iter().all(|p| p.nines.is_finite() && p.nines >= 0.0));
        }
    }
}
