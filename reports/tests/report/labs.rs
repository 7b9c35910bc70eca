// SPDX-License-Identifier: Apache-2.0
//! Reports of one run in several labs: whether they rank modes alike and how far apart they are.

use std::fs;
use std::path::Path;

use record::{CaseRecord, Fidelity, Histogram, Quantiles, Run};
use reports::analysis::group::groups;
use reports::analysis::lab::{Measure, labs};
use reports::table::{Look, Table};

use crate::support::{Spec, run};
use crate::tags;

type Case = (CaseRecord, Option<Histogram>);

const MODES: [&str; 3] = ["none", "iptables", "nftables"];

fn case(lab: &str, mode: &str) -> Case {
    let spec = Spec::new(mode, "nodeport-remote", 1000, "newconn").in_lab(lab);
    let (case, latency) = spec.measured(200);
    (case, Some(latency))
}

/// A case whose medians are so many microseconds, in the whole and in every iteration.
fn timed(lab: &str, mode: &str, first_packet_us: u64, latency_us: u64) -> Case {
    let (mut case, latency) = case(lab, mode);
    let at = |quantiles: &mut Option<Quantiles>, us: u64| {
        quantiles.as_mut().expect("a measured case").p50 = us * 1000;
    };
    at(&mut case.first_packet_ns, first_packet_us);
    at(&mut case.latency_ns, latency_us);
    for iteration in &mut case.iterations {
        at(&mut iteration.first_packet_ns, first_packet_us);
        at(&mut iteration.latency_ns, latency_us);
    }
    (case, latency)
}

fn made(home: &Path, cases: Vec<Case>) -> Vec<Run> {
    vec![run(&home.join("run"), "r1", cases)]
}

fn page(home: &Path, runs: &[Run]) -> (String, String) {
    let rendered = reports::render(runs, &home.join("out")).expect("a report");
    let page = fs::read_to_string(&rendered.html).expect("the page");
    tags::read(&page).expect("a page that is well formed");
    (page, fs::read_to_string(&rendered.markdown).expect("its twin"))
}

#[test]
fn labs_that_rank_modes_alike_are_said_to_with_both_values_and_their_ratio() {
    let home = tempfile::tempdir().unwrap();
    let mut cases = Vec::new();
    for (lab, times) in [("kind", 2), ("netns", 1)] {
        for (place, mode) in MODES.into_iter().enumerate() {
            let place = place as u64 + 1;
            let mut one = timed(lab, mode, 10 * place * times, 100 * place * times);
            one.0.counts.as_mut().unwrap().rules_walked = Some(7 * times + 2);
            cases.push(one);
        }
    }
    let runs = made(home.path(), cases);
    let found = labs(&groups(&runs), &runs);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].labs, ["netns", "kind"], "netns is what ratios are to");
    let block = &found[0].blocks[0];
    assert_eq!(block.pairs.len(), 3);
    for ranking in &block.rankings {
        assert_eq!(ranking.orders, [MODES.to_vec(), MODES.to_vec()]);
        assert_eq!((ranking.alike, ranking.open, ranking.is_alike()), (3, 0, true));
        assert_eq!(ranking.verdict(found[0].labs), "alike: none, iptables, nftables");
    }
    for pair in &block.pairs {
        assert_eq!(pair.time_ratio(Measure::FirstPacket), Some(2.0));
        assert_eq!(pair.rules_walked(), [Some(9), Some(16)]);
    }
    let (page, markdown) = page(home.path(), &runs);
    assert!(page.contains("<h3>kind against netns</h3>"));
    for cell in [">10.0 µs<", ">20.0 µs<", ">×2.00<", ">9<", ">16<", ">×1.78<"] {
        assert!(page.contains(cell), "{cell}");
    }
    assert!(
        page.contains("in kind node-a: iptables holds 1000 Services, as asked"),
        "proofs are quoted"
    );
    assert!(markdown.contains("## Lab kind against netns"), "{markdown}");
    assert!(markdown.contains("modes by first packet p50: alike: none, iptables, nftables"));
    let table = Table::of(&runs).text(Look::default());
    assert!(table.starts_with("lab "), "{table}");
    assert!(
        table.contains(
            "lab kind against netns: nodeport-remote · 1,000 Services · newconn · bridge\n"
        ),
        "{table}"
    );
    assert!(
        table.contains(
            "  by first packet p50, modes rank alike: none, iptables, nftables; by p50, modes rank \
             alike: none, iptables, nftables; first packet p50 ×2.00; p50 ×2.00; rules walked ×1.78\n"
        ),
        "{table}"
    );
}

#[test]
fn labs_that_contradict_each_other_name_the_modes_they_do_it_over() {
    let home = tempfile::tempdir().unwrap();
    let cases = vec![
        timed("netns", "iptables", 10, 100),
        timed("netns", "nftables", 20, 200),
        timed("kind", "iptables", 30, 100),
        timed("kind", "nftables", 15, 200),
    ];
    let runs = made(home.path(), cases);
    let found = labs(&groups(&runs), &runs);
    let [first_packet, latency] = &found[0].blocks[0].rankings[..] else { panic!() };
    assert_eq!(first_packet.orders, [vec!["iptables", "nftables"], vec!["nftables", "iptables"]]);
    assert!(!first_packet.is_alike() && latency.is_alike());
    let verdict = first_packet.verdict(found[0].labs);
    assert_eq!(verdict, "not alike: iptables before nftables in netns and behind it in kind");
    assert!(page(home.path(), &runs).0.contains(&verdict));
}

#[test]
fn an_order_within_the_iterations_spread_contradicts_nothing_and_proves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut cases = vec![
        timed("netns", "iptables", 10, 100),
        timed("netns", "nftables", 20, 200),
        timed("kind", "iptables", 30, 210),
        timed("kind", "nftables", 15, 200),
    ];
    // In kind, one iteration of iptables was faster than all of nftables.
    let spread = &mut cases[2].0.iterations[0];
    spread.first_packet_ns.as_mut().unwrap().p50 = 1000;
    spread.latency_ns.as_mut().unwrap().p50 = 1000;
    let runs = made(home.path(), cases);
    let found = labs(&groups(&runs), &runs);
    for ranking in &found[0].blocks[0].rankings {
        assert_eq!((ranking.alike, ranking.opposite.len(), ranking.open), (0, 0, 1));
        assert!(!ranking.is_alike());
        let verdict = ranking.verdict(found[0].labs);
        assert!(verdict.starts_with("no two modes are told apart in both labs"), "{verdict}");
    }
}

#[test]
fn what_only_one_lab_measured_is_left_out_and_one_lab_alone_has_no_section() {
    let home = tempfile::tempdir().unwrap();
    let mut cases =
        vec![case("netns", "none"), case("netns", "iptables"), case("kind", "iptables")];
    let skipped = Spec::new("nftables", "nodeport-remote", 1000, "newconn");
    cases.push((skipped.clone().in_lab("kind").skipped(), None));
    let runs = made(home.path(), cases);
    let found = labs(&groups(&runs), &runs);
    let block = &found[0].blocks[0];
    assert_eq!(block.pairs.iter().map(|pair| pair.mode).collect::<Vec<_>>(), ["iptables"]);
    assert_eq!(block.rankings, [], "one mode has no order");
    assert!(page(home.path(), &runs).0.contains("Fewer than two modes have times in both labs"));

    let home = tempfile::tempdir().unwrap();
    let runs = made(home.path(), vec![case("kind", "none"), case("kind", "iptables")]);
    assert!(labs(&groups(&runs), &runs).is_empty());
    assert!(!page(home.path(), &runs).0.contains("id=\"labs\""));
    assert!(Table::of(&runs).text(Look::default()).starts_with("mode "));
}

#[test]
fn without_times_that_count_only_counts_are_compared() {
    let home = tempfile::tempdir().unwrap();
    let mut cases: Vec<Case> =
        ["netns", "kind"].into_iter().flat_map(|lab| MODES.map(|mode| case(lab, mode))).collect();
    cases.iter_mut().for_each(|(case, _)| case.fidelity = Some(Fidelity::Functional));
    let runs = made(home.path(), cases);
    let found = labs(&groups(&runs), &runs);
    let block = &found[0].blocks[0];
    assert_eq!(block.rankings, []);
    assert!(block.pairs.iter().all(|pair| pair.time_ratio(Measure::Latency).is_none()));
    assert!(block.pairs.iter().all(|pair| pair.rules_ratio() == Some(1.0)));
}

#[test]
fn a_labs_name_and_proof_stay_text() {
    let home = tempfile::tempdir().unwrap();
    let evil = "<b onclick=x>";
    let mut cases = vec![case("netns", "none"), case("netns", "iptables")];
    for mode in ["none", "iptables"] {
        let mut one = case(evil, mode);
        one.0.proof.as_mut().unwrap().evidence = vec!["<img src=x>".to_owned()];
        cases.push(one);
    }
    let runs = made(home.path(), cases);
    assert_eq!(labs(&groups(&runs), &runs).len(), 1);
    let (page, markdown) = page(home.path(), &runs);
    assert!(!page.contains(evil) && !page.contains("<img"));
    assert!(!markdown.contains(evil) && !markdown.contains("<img"));
}
