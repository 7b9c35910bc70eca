// SPDX-License-Identifier: Apache-2.0
//! Student's t: how many standard errors an interval of 95 % reaches to either side.

/// The 97.5 % quantile for 1 to 10 degrees of freedom (NIST/SEMATECH e-Handbook of Statistical
/// Methods, 1.3.6.7.2). The series below is not good enough there.
const FEW: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];

/// The same of the normal distribution, which it comes down to.
const NORMAL: f64 = 1.959_963_985;

/// The 97.5 % quantile; none without a degree of freedom.
pub fn t_975(degrees: usize) -> Option<f64> {
    let degrees = degrees.checked_sub(1)?;
    Some(FEW.get(degrees).copied().unwrap_or_else(|| series((degrees + 1) as f64)))
}

/// Fisher and Cornish's expansion in powers of 1/degrees (Abramowitz and Stegun, 26.7.5).
fn series(degrees: f64) -> f64 {
    let z = NORMAL;
    let g1 = (z.powi(3) + z) / 4.0;
    let g2 = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let g3 = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + g1 / degrees + g2 / degrees.powi(2) + g3 / degrees.powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        assert_eq!(t_975(0), None);
        for (degrees, table) in [(1, 12.706), (10, 2.228), (11, 2.201), (30, 2.042), (100, 1.984)] {
            let t = t_975(degrees).unwrap();
            assert!((t - table).abs() < 6e-4, "{degrees}: {t}");
        }
    }

    #[test]
    fn more_degrees_never_widen_an_interval() {
        let all: Vec<f64> = (1..200).filter_map(t_975).collect();
        assert!(all.is_sorted_by(|a, b| a > b));
    }
}
