// SPDX-License-Identifier: Apache-2.0
//! A straight line through points, by ordinary least squares.

/// `y = intercept + slope * x`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Value at x = 0.
    pub intercept: f64,
    /// Change of y for each unit of x.
    pub slope: f64,
    /// Share of y's variance the line explains, 0 to 1. None below three points, through which a
    /// line says nothing about itself, and where y does not vary.
    pub r2: Option<f64>,
    /// Points it rests on.
    pub points: usize,
}

impl Fit {
    /// The line's value at `x`.
    pub fn at(&self, x: f64) -> f64 {
        self.intercept + self.slope * x
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
    let r2 = (points.len() >= 3 && syy > 0.0).then(|| (1.0 - unexplained / syy).clamp(0.0, 1.0));
    Some(Fit { intercept: mean_y - slope * mean_x, slope, r2, points: points.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
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

    proptest! {
        #[test]
        fn points_on_a_line_give_that_line(a in 0.0f64..1e6, b in -100.0f64..100.0) {
            let points: Vec<_> = [1.0, 100.0, 1000.0, 10_000.0].iter().map(|x| (*x, a + b * x)).collect();
            let fit = least_squares(&points).unwrap();
            prop_assert!((fit.slope - b).abs() < 1e-6 && (fit.intercept - a).abs() < 1e-3);
        }
    }
}
