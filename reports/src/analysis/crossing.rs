// SPDX-License-Identifier: Apache-2.0
//! Where two modes' fitted lines cross: the number of Services from which the other one is faster.
//!
//! The interval is of a bootstrap: the iterations at each Service count are drawn again with
//! replacement, both lines are fitted anew, and the middle 95 % of their crossings are kept. The
//! crossing of two lines is a ratio, whose distribution no formula of least squares gives.

use crate::analysis::fit::{Fit, least_squares};
use crate::analysis::random::Random;
use crate::analysis::slope::{Family, Line, Metric, Part, Point};

/// Resamples of a line.
const RESAMPLES: usize = 500;

/// Share of resamples that lies beyond either end of an interval.
const TAIL: f64 = 0.025;

/// Two modes and where they cross.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair<'a> {
    /// The mode that is faster with few Services.
    pub few: &'a Line,
    /// The other one.
    pub many: &'a Line,
    /// Least and most Services that both were measured at: a crossing beyond is not looked for.
    pub measured: (u32, u32),
    /// What was found.
    pub crossing: Crossing,
}

/// Whether two lines cross within the Services measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Crossing {
    /// They do.
    At {
        /// Number of Services.
        services: f64,
        /// 95 % interval; none where the record keeps no iterations. An end that stands at the least or
        /// most Services measured may lie beyond.
        interval: Option<(f64, f64)>,
    },
    /// They do not.
    Nowhere {
        /// Share of the resamples in which they do all the same; none without iterations.
        in_resamples: Option<f64>,
    },
}

impl Pair<'_> {
    /// Whether a crossing's interval is narrower than all that was measured, so that it says something.
    pub fn located(&self) -> bool {
        let (least, most) = (f64::from(self.measured.0), f64::from(self.measured.1));
        match self.crossing {
            Crossing::At { interval: Some((low, high)), .. } => low > least || high < most,
            Crossing::At { interval: None, .. } => true,
            Crossing::Nowhere { .. } => false,
        }
    }
}

impl Crossing {
    /// Whether nearly all resamples agree that there is none.
    pub fn settled(self) -> bool {
        matches!(self, Self::Nowhere { in_resamples: Some(share) } if share <= TAIL)
    }
}

/// All pairs of modes of one time at the same position.
pub fn pairs<'a>(family: &'a Family<'_>, metric: Metric) -> Vec<Pair<'a>> {
    let lines: Vec<&Line> = family.of(metric, Part::P50).collect();
    let resampled: Vec<_> = lines.iter().enumerate().map(|(i, line)| resample(line, i)).collect();
    let mut pairs = Vec::new();
    for (i, a) in lines.iter().enumerate() {
        for (j, b) in lines.iter().enumerate().skip(i + 1) {
            if a.position == b.position {
                pairs.extend(pair((a, &resampled[i]), (b, &resampled[j])));
            }
        }
    }
    pairs
}

/// Fits of resamples, in a fixed order so that those of two lines go together by place. Empty where a
/// Service count has a single value, which would never vary.
fn resample(line: &Line, seed: usize) -> Vec<Fit> {
    if line.points.iter().any(|point| point.replicates.len() < 2) {
        return Vec::new();
    }
    let mut random = Random::new(seed as u64);
    let mut draw = |point: &Point| -> Vec<(f64, f64)> {
        let n = point.replicates.len();
        let services = f64::from(point.services);
        (0..n).map(|_| (services, point.replicates[random.below(n)])).collect()
    };
    let once = |_| least_squares(&line.points.iter().flat_map(&mut draw).collect::<Vec<_>>());
    (0..RESAMPLES).filter_map(once).collect()
}

fn pair<'a>((a, fits_a): (&'a Line, &[Fit]), (b, fits_b): (&'a Line, &[Fit])) -> Option<Pair<'a>> {
    let ends = |line: &Line| Some((line.points.first()?.services, line.points.last()?.services));
    let (ends_a, ends_b) = (ends(a)?, ends(b)?);
    let measured = (ends_a.0.max(ends_b.0), ends_a.1.min(ends_b.1));
    let range = (f64::from(measured.0), f64::from(measured.1));
    if range.0 >= range.1 {
        return None;
    }
    // From here on `a` is the one below at the least Services.
    let swap = a.fit.at(range.0) > b.fit.at(range.0);
    let ((few, fits_few), (many, fits_many)) =
        if swap { ((b, fits_b), (a, fits_a)) } else { ((a, fits_a), (b, fits_b)) };
    let mut places: Vec<Place> =
        fits_few.iter().zip(fits_many).map(|(few, many)| place(few, many, range)).collect();
    places.sort_by(|x, y| x.services(range).total_cmp(&y.services(range)));
    let crossing = match place(&few.fit, &many.fit, range) {
        Place::Within(services) => {
            let cut = (places.len() as f64 * TAIL) as usize;
            let interval = (!places.is_empty()).then(|| {
                (places[cut].services(range), places[places.len() - 1 - cut].services(range))
            });
            Crossing::At { services, interval }
        }
        Place::Before | Place::Beyond => {
            let within = places.iter().filter(|place| matches!(place, Place::Within(_))).count();
            let in_resamples = (!places.is_empty()).then(|| within as f64 / places.len() as f64);
            Crossing::Nowhere { in_resamples }
        }
    };
    Some(Pair { few, many, measured, crossing })
}

/// Where a crossing lies, seen from the Services measured.
enum Place {
    Before,
    Within(f64),
    Beyond,
}

impl Place {
    fn services(&self, range: (f64, f64)) -> f64 {
        match self {
            Self::Before => range.0,
            Self::Within(services) => *services,
            Self::Beyond => range.1,
        }
    }
}

fn place(few: &Fit, many: &Fit, range: (f64, f64)) -> Place {
    let gap = |services: f64| many.at(services) - few.at(services);
    match (gap(range.0), gap(range.1)) {
        (first, last) if first >= 0.0 && last < 0.0 => {
            Place::Within((few.intercept - many.intercept) / (many.slope - few.slope))
        }
        (first, _) if first >= 0.0 => Place::Beyond,
        _ => Place::Before,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(mode: &str, values: impl Fn(u32, usize) -> f64) -> Line {
        let point = |services: u32| {
            let replicates: Vec<f64> = (0..6).map(|i| values(services, i)).collect();
            let ns = replicates.iter().sum::<f64>() / 6.0;
            Point { services, ns, replicates }
        };
        let points: Vec<Point> = [1, 100, 1000].map(point).into();
        let all = crate::analysis::slope::replicates(&points);
        let fit = least_squares(&all).expect("three Service counts");
        let (metric, part, rules_per_service) = (Metric::FirstPacket, Part::P50, None);
        Line {
            mode: mode.to_owned(),
            position: "last",
            metric,
            part,
            points,
            fit,
            rules_per_service,
        }
    }

    fn pair_of<'a>(a: &'a Line, b: &'a Line) -> Pair<'a> {
        pair((a, &resample(a, 0)), (b, &resample(b, 1)))
            .expect("both were measured at the same counts")
    }

    #[test]
    fn lines_that_are_the_same_but_for_noise_cross_nowhere_that_counts() {
        let noise =
            |i: usize, k: usize| [0.0, 40.0, -35.0, 22.0, -30.0, 11.0][(i * k + k) % 6] * 30.0;
        let a = line("a", |n, i| 10_000.0 + noise(i + n as usize, 1));
        let b = line("b", |n, i| 10_001.0 + noise(i + n as usize, 5));
        let pair = pair_of(&a, &b);
        assert!(!pair.located() && !pair.crossing.settled(), "{:?}", pair.crossing);
    }

    #[test]
    fn a_crossing_beyond_what_was_measured_is_none() {
        let a = line("a", |n, i| 10_000.0 + f64::from(n) + i as f64);
        let b = line("b", |_, i| 12_000.0 + i as f64);
        assert_eq!(pair_of(&a, &b).crossing, Crossing::Nowhere { in_resamples: Some(0.0) });
    }

    #[test]
    fn the_mode_that_is_ahead_with_few_services_is_named_first() {
        let a = line("a", |_, i| 10_500.0 + i as f64);
        let b = line("b", |n, i| 10_000.0 + f64::from(n) + i as f64);
        let pair = pair_of(&a, &b);
        assert_eq!((pair.few.mode.as_str(), pair.many.mode.as_str()), ("b", "a"));
        let Crossing::At { services, .. } = pair.crossing else { panic!("{:?}", pair.crossing) };
        assert!((services - 500.0).abs() < 10.0 && pair.located(), "{services}");
    }
}
