// SPDX-License-Identifier: Apache-2.0
//! Cost of each further Service, from records whose medians lie on known lines.

use record::Quantiles;
use reports::analysis::slope::{Line, Metric, families};

use crate::support::{Spec, run};

/// The first-packet line of a mode with these medians: `(Services, nanoseconds)`.
fn line(medians: &[(u32, u64)]) -> Option<Line> {
    let home = tempfile::tempdir().expect("a temporary directory");
    let case = |&(services, p50): &(u32, u64)| {
        let spec = Spec::new("iptables", "nodeport-remote", services, "newconn");
        let (mut case, _) = spec.measured(70);
        let first_packet = case.first_packet_ns.expect("a new connection has a first packet");
        case.first_packet_ns = Some(Quantiles { p50, ..first_packet });
        for iteration in &mut case.iterations {
            iteration.first_packet_ns = case.first_packet_ns;
        }
        (case, None)
    };
    let runs = [run(&home.path().join("run"), "r", medians.iter().map(case).collect())];
    let family = families(&runs).into_iter().next()?;
    family.lines.into_iter().find(|line| line.metric == Metric::FirstPacket)
}

#[test]
fn medians_on_a_line_give_that_line_and_an_r2_of_one() {
    for (a, b) in [(12_000, 13), (100_000, 250), (1, 1)] {
        let medians = [1, 100, 1000, 10_000].map(|n: u32| (n, a + b * u64::from(n)));
        let fit = line(&medians).unwrap().fit;
        assert!((fit.slope - b as f64).abs() < 1e-9, "{fit:?}");
        assert!((fit.intercept - a as f64).abs() < 1e-6, "{fit:?}");
        assert!((fit.r2.unwrap() - 1.0).abs() < 1e-12, "{fit:?}");
    }
}

#[test]
fn medians_off_the_line_give_the_r2_found_by_hand() {
    // Sxx = 2, Sxy = 1000, Syy = 2e6: the slope is Sxy / Sxx = 500, R2 is Sxy^2 / (Sxx Syy) = 1/4.
    let fit = line(&[(1, 1000), (2, 3000), (3, 2000)]).unwrap().fit;
    assert!((fit.slope - 500.0).abs() < 1e-9 && (fit.intercept - 1000.0).abs() < 1e-9, "{fit:?}");
    assert!((fit.r2.unwrap() - 0.25).abs() < 1e-12, "{fit:?}");
}

#[test]
fn one_service_count_has_no_line() {
    assert_eq!(line(&[(1000, 20_000)]), None);
}

#[test]
fn cases_in_any_order_give_points_in_order() {
    let shuffled = line(&[(1000, 30_000), (1, 10_000), (100, 12_000)]).unwrap();
    let points: Vec<_> = shuffled.points.iter().map(|p| (p.services, p.ns)).collect();
    assert_eq!(points, [(1, 10_000.0), (100, 12_000.0), (1000, 30_000.0)]);
}
