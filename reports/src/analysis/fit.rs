// SPDX-License-Identifier: Apache-2.0
//! A straight line through points, by ordinary least squares, and how far it can be trusted.
//!
//! Values measured at the same x share what is peculiar to that x: a lab set up once, one layout of
//! memory. The interval of a slope therefore comes from two scatters, and the wider one counts: that of
//! single values around the line (n - 2 degrees of freedom), and that of the means at each x around it
//! (distinct x - 2), which is the larger one where the line is not straight or a lab had its own luck.
//! Both with Student's t and not by resampling: with three to ten iterations at each x a bootstrap's
//! intervals are too short by up to a fifth, because the resamples of few values vary less than they do.

use crate::analysis::student::t_975;

/// `y = intercept + slope * x`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Value at x = 0.
    pub intercept: f64,
    /// Change of y for each unit of x.
    pub slope: f64,
    /// Share of y's variance the line explains, 0 to 1. None below three different x, through which a
    /// line says nothing about itself, and where y does not vary.
    pub r2: Option<f64>,
    /// Points it rests on.
    pub points: usize,
    /// How far it may be off; none below three points.
    pub trust: Option<Trust>,
}

/// How far a line may be off, with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trust {
    /// Half the interval of the slope.
    pub half_slope: f64,
    mean_x: f64,
    sxx: f64,
    points: f64,
}

impl Fit {
    /// The line's value at `x`.
    pub fn at(&self, x: f64) -> f64 {
        self.intercept + self.slope * x
    }

    /// The slope's interval of 95 % confidence.
    pub fn slope_interval(&self) -> Option<(f64, f64)> {
        self.trust.map(|trust| (self.slope - trust.half_slope, self.slope + trust.half_slope))
    }

    /// The interval of the line's value at `x`, of 95 % confidence for each x alone.
    pub fn interval_at(&self, x: f64) -> Option<(f64, f64)> {
        let Trust { half_slope, mean_x, sxx, points } = self.trust?;
        let half = half_slope * (sxx / points + (x - mean_x).powi(2)).sqrt();
        Some((self.at(x) - half, self.at(x) + half))
    }
}

/// Fits a line; none below two different values of x, or where a value is not finite.
pub fn least_squares(points: &[(f64, f64)]) -> Option<Fit> {
    if points.iter().any(|(x, y)| !x.is_finite() || !y.is_finite()) {
        return None;
    }
    let n = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / n;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / n;
    // Sums of centred products lose fewer digits than sums of squares.
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        points.iter().map(|(x, y)| f(x - mean_x, y - mean_y)).sum()
    };
    let sxx = sum(&|dx, _| dx * dx);
    if points.len() < 2 || sxx == 0.0 {
        return None;
    }
    let slope = sum(&|dx, dy| dx * dy) / sxx;
    let syy = sum(&|_, dy| dy * dy);
    let unexplained = sum(&|dx, dy| (dy - slope * dx).powi(2));
    let r2 =
        (places(points).len() >= 3 && syy > 0.0).then(|| (1.0 - unexplained / syy).clamp(0.0, 1.0));
    let intercept = mean_y - slope * mean_x;
    let half_slope = half_slope(points, intercept, slope, sxx);
    let trust = half_slope.map(|half_slope| Trust { half_slope, mean_x, sxx, points: n });
    Some(Fit { intercept, slope, r2, points: points.len(), trust })
}

/// The points at each x together.
fn places(points: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
    let mut by_x = points.to_vec();
    by_x.sort_by(|a, b| a.0.total_cmp(&b.0));
    by_x.chunk_by(|a, b| a.0 == b.0).map(<[_]>::to_vec).collect()
}

/// The wider of the two intervals' halves, see above.
fn half_slope(points: &[(f64, f64)], intercept: f64, slope: f64, sxx: f64) -> Option<f64> {
    let off = |(x, y): &(f64, f64)| y - (intercept + slope * x);
    let half = |scatter: f64, degrees: usize| {
        t_975(degrees).map(|t| t * (scatter / degrees as f64 / sxx).sqrt())
    };
    let single: f64 = points.iter().map(|point| off(point).powi(2)).sum();
    let places = places(points);
    let mean =
        |place: &Vec<(f64, f64)>| place.iter().map(off).sum::<f64>().powi(2) / place.len() as f64;
    let means: f64 = places.iter().map(mean).sum();
    let of_points = half(single, points.len().checked_sub(2)?)?;
    let of_means = half(means, places.len().saturating_sub(2)).unwrap_or(0.0);
    Some(of_points.max(of_means))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::random::Random;
    use proptest::prelude::*;

    #[test]
    fn two_points_give_the_line_through_them_and_no_r2() {
        let fit = least_squares(&[(1.0, 10_012.9), (1000.0, 22_900.0)]).unwrap();
        assert!((fit.slope - 12.9).abs() < 1e-9 && (fit.intercept - 10_000.0).abs() < 1e-6);
        assert_eq!((fit.r2, fit.points), (None, 2));
    }

    #[test]
    fn a_textbook_example_comes_out_as_in_the_textbook() {
        // Anscombe's first quartet (The American Statistician 27, 1973): y = 3.00 + 0.500 x, R2 0.67.
        let x = [10.0, 8.0, 13.0, 9.0, 11.0, 14.0, 6.0, 4.0, 12.0, 7.0, 5.0];
        let y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68];
        let points: Vec<_> = x.into_iter().zip(y).collect();
        let fit = least_squares(&points).unwrap();
        assert!((fit.intercept - 3.0001).abs() < 1e-4);
        assert!((fit.slope - 0.5001).abs() < 1e-4);
        assert!((fit.r2.unwrap() - 0.6665).abs() < 1e-4);
    }

    #[test]
    fn one_service_count_has_no_slope() {
        assert_eq!(least_squares(&[]), None);
        assert_eq!(least_squares(&[(5.0, 1.0)]), None);
        assert_eq!(least_squares(&[(5.0, 1.0), (5.0, 2.0)]), None);
    }

    #[test]
    fn a_level_line_has_slope_zero_and_no_r2() {
        let fit = least_squares(&[(1.0, 7.0), (2.0, 7.0), (3.0, 7.0)]).unwrap();
        assert_eq!((fit.slope, fit.r2), (0.0, None));
    }

    #[test]
    fn the_slopes_interval_is_the_textbooks() {
        // Anscombe's first again: the slope's standard error is 0.1179, t of 9 degrees is 2.262.
        let x = [10.0, 8.0, 13.0, 9.0, 11.0, 14.0, 6.0, 4.0, 12.0, 7.0, 5.0];
        let y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68];
        let fit = least_squares(&x.into_iter().zip(y).collect::<Vec<_>>()).unwrap();
        let (low, high) = fit.slope_interval().unwrap();
        assert!((low - 0.2334).abs() < 2e-4 && (high - 0.7668).abs() < 2e-4, "{low} {high}");
        let (low, high) = fit.interval_at(9.0).unwrap();
        // At the mean only the standard error of the mean is left: 1.2366 / sqrt(11).
        assert!((high - low - 2.0 * 2.262 * 1.2366 / 11f64.sqrt()).abs() < 1e-3, "{low} {high}");
    }

    #[test]
    fn values_that_share_their_places_luck_count_as_one() {
        // Ten equal values at each of four places: they agree with each other and not with a line.
        let bent: Vec<_> = [(1.0, 0.0), (2.0, 3.0), (3.0, 2.0), (4.0, 5.0)]
            .iter()
            .flat_map(|point| std::iter::repeat_n(*point, 10))
            .collect();
        let alone = least_squares(&[(1.0, 0.0), (2.0, 3.0), (3.0, 2.0), (4.0, 5.0)]).unwrap();
        let fit = least_squares(&bent).unwrap();
        assert!((fit.trust.unwrap().half_slope - alone.trust.unwrap().half_slope).abs() < 1e-9);
    }

    #[test]
    fn two_points_have_no_interval() {
        assert_eq!(least_squares(&[(1.0, 2.0), (2.0, 3.0)]).unwrap().slope_interval(), None);
    }

    /// Values around `a + b x` at six places, five at each.
    fn noisy(random: &mut Random, b: f64) -> Vec<(f64, f64)> {
        // The sum of twelve even numbers less six is normal enough to three standard deviations.
        let mut noise = || {
            (0..12).map(|_| random.below(1 << 20) as f64 / f64::from(1 << 20)).sum::<f64>() - 6.0
        };
        let x = [1.0, 10.0, 100.0, 1000.0, 10_000.0, 30_000.0];
        x.iter()
            .flat_map(|&x| {
                (0..5).map(|_| (x, 10_000.0 + b * x + 800.0 * noise())).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn intervals_hold_the_slope_they_were_made_with_as_often_as_they_say() {
        let mut random = Random::new(3);
        let held = (0..2000).filter(|_| {
            let (low, high) =
                least_squares(&noisy(&mut random, 13.0)).unwrap().slope_interval().unwrap();
            (low..high).contains(&13.0)
        });
        let held = held.count();
        // At least the 95 % stated less three standard errors of 2,000 trials; the wider of two is wider.
        assert!((1870..=1985).contains(&held), "{held} of 2000");
    }

    proptest! {
        #[test]
        fn points_on_a_line_give_that_line(a in 0.0f64..1e6, b in -100.0f64..100.0) {
            let points: Vec<_> = [1.0, 100.0, 1000.0, 10_000.0].iter().map(|x| (*x, a + b * x)).collect();
            let fit = least_squares(&points).unwrap();
            prop_assert!((fit.slope - b).abs() < 1e-6 && (fit.intercept - a).abs() < 1e-3);
        }
    }
}
