// SPDX-License-Identifier: Apache-2.0
//! Curves over Services from records made of known lines with known noise: slopes with their
//! intervals, rules, positions and crossings.

use record::{CaseRecord, IterationRecord, Quantiles, Run};
use reports::analysis::crossing::{Crossing, pairs};
use reports::analysis::headline::headline;
use reports::analysis::slope::{Family, Metric, Part, families};
use reports::render;

use crate::support::{Spec, run};

const COUNTS: [u32; 6] = [1, 10, 100, 1000, 10_000, 30_000];

/// A case whose first packets take `a + b * services` nanoseconds, its iterations up to 2 % around it.
fn case(mode: &str, services: u32, position: &str, a: f64, b: f64) -> CaseRecord {
    let (mut case, _) = Spec::new(mode, "nodeport-remote", services, "newconn").measured(70);
    if position != "last" && services > 1 {
        let count = format!("svc-{services}");
        case.id = case.id.replace(&count, &format!("{count}-{position}"));
    }
    let ns = a + b * f64::from(services);
    let quantiles = case.first_packet_ns.expect("a new connection has a first packet");
    let of = |ns: f64| Some(Quantiles { p50: ns as u64, ..quantiles });
    case.first_packet_ns = of(ns);
    let noise = [0.99, 1.01, 1.0, 1.02, 0.98];
    let turned = (services as usize + mode.len()) % noise.len();
    let iteration = |i: usize| IterationRecord {
        first_packet_ns: of(ns * noise[(i + turned) % noise.len()]),
        ..case.iterations[i].clone()
    };
    case.iterations = (0..noise.len()).map(iteration).collect();
    let rules = if mode == "iptables" { u64::from(services) + 7 } else { 9 };
    if let Some(counts) = &mut case.counts {
        counts.rules_walked = Some(rules);
    }
    case
}

fn record(home: &tempfile::TempDir, cases: Vec<CaseRecord>) -> [Run; 1] {
    [run(&home.path().join("run"), "r", cases.into_iter().map(|case| (case, None)).collect())]
}

fn curves(home: &tempfile::TempDir) -> [Run; 1] {
    let of = |(mode, a, b): (&'static str, f64, f64)| {
        COUNTS.map(|services| case(mode, services, "last", a, b))
    };
    let modes = [("none", 5_000.0, 0.0), ("iptables", 12_000.0, 13.0), ("nftables", 14_600.0, 0.0)];
    record(home, modes.into_iter().flat_map(of).collect())
}

fn line<'a>(family: &'a Family<'_>, mode: &str) -> &'a reports::analysis::slope::Line {
    family.of(Metric::FirstPacket, Part::P50).find(|line| line.mode == mode).expect("a line")
}

#[test]
fn a_slope_has_an_interval_that_holds_it_and_a_price_per_rule() {
    let home = tempfile::tempdir().unwrap();
    let runs = curves(&home);
    let families = families(&runs);
    let iptables = line(&families[0], "iptables");
    let (low, high) = iptables.fit.slope_interval().unwrap();
    assert!(low < 13.0 && 13.0 < high && high - low < 1.0, "{low} to {high}");
    let (per_rule, interval) = iptables.per_rule_ns().unwrap();
    assert!((per_rule - 13.0).abs() < 0.3 && interval.is_some(), "{per_rule}");
    assert!(iptables.fit.r2.unwrap() > 0.99);
    // A map does not grow by a rule for each Service.
    let nftables = line(&families[0], "nftables");
    assert_eq!(nftables.per_rule_ns(), None);
    assert!(nftables.fit.slope.abs() < 0.05, "{}", nftables.fit.slope);
}

#[test]
fn a_crossing_is_found_where_the_lines_were_made_to_cross() {
    let home = tempfile::tempdir().unwrap();
    let runs = curves(&home);
    let families = families(&runs);
    let pairs = pairs(&families[0], Metric::FirstPacket);
    let found: Vec<_> = pairs
        .iter()
        .map(|pair| (pair.few.mode.as_str(), pair.many.mode.as_str(), pair.crossing))
        .collect();
    // 12,000 + 13 N is 14,600 at 200 Services.
    let Some((few, many, Crossing::At { services, interval })) =
        found.iter().find(|(.., crossing)| matches!(crossing, Crossing::At { .. })).copied()
    else {
        panic!("no crossing in {found:?}");
    };
    let (low, high) = interval.unwrap();
    assert_eq!((few, many), ("iptables", "nftables"));
    assert!(low <= services && services <= high && low < 220.0 && high > 180.0, "{found:?}");
    for (few, many, crossing) in found.into_iter().filter(|(few, ..)| *few == "none") {
        assert!(crossing.settled(), "{few} and {many}: {crossing:?}");
    }
}

#[test]
fn positions_are_lines_of_one_family_and_share_the_lone_service() {
    let home = tempfile::tempdir().unwrap();
    let mut cases = vec![case("iptables", 1, "last", 12_000.0, 13.0)];
    for (position, b) in [("first", 0.1), ("middle", 6.6), ("last", 13.0)] {
        cases.extend([1000, 10_000].map(|n| case("iptables", n, position, 12_000.0, b)));
    }
    let runs = record(&home, cases);
    let families = families(&runs);
    assert_eq!(families.len(), 1);
    let lines: Vec<_> = families[0]
        .of(Metric::FirstPacket, Part::P50)
        .map(|line| (line.position, line.points.len(), line.fit.slope.round() as i64))
        .collect();
    assert_eq!(lines, [("first", 3, 0), ("middle", 3, 7), ("last", 3, 13)]);
    assert!(!families[0].title.contains("first"), "{}", families[0].title);
    let said = headline(&runs);
    let at_most =
        "On nodeport-remote over bridge with 10,000 Services, the measured one last, a new ";
    assert!(
        said[0].starts_with(at_most) && said[0].ends_with("took 142 µs through iptables."),
        "{said:?}"
    );
    assert!(
        said[1].contains("over bridge, the measured one last, each further Service added 13"),
        "{said:?}"
    );
    assert!(pairs(&families[0], Metric::FirstPacket).is_empty());
}

#[test]
fn the_page_and_its_twin_say_where_modes_overtake_and_where_not() {
    let home = tempfile::tempdir().unwrap();
    let rendered = render(&curves(&home), &home.path().join("out")).unwrap();
    for file in [rendered.html, rendered.markdown] {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.contains("iptables is ahead up to "), "{text}");
        assert!(text.contains(
            "None up to 30,000 Services: none before iptables and none before nftables."
        ));
        assert!(text.contains("kubernetes.io/blog/2025/02/28/nftables-kube-proxy"));
    }
    assert!(
        rendered.missing.iter().all(|why| why.starts_with("latency-")),
        "{:?}",
        rendered.missing
    );
}

#[test]
fn two_fits_of_one_record_are_the_same_to_the_last_digit() {
    let home = tempfile::tempdir().unwrap();
    let runs = curves(&home);
    let (one, two) = (families(&runs), families(&runs));
    assert_eq!(pairs(&one[0], Metric::FirstPacket), pairs(&two[0], Metric::FirstPacket));
}
