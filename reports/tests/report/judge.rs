// SPDX-License-Identifier: Apache-2.0
//! Words that comparisons say, and how they are written down.

use record::{BlockRecord, Counts, Quantiles};
use reports::judge::comparison::{Times, Word};
use reports::judge::metric::Replicates;
use reports::judge::power::{PowerCurve, PowerLine, PowerPoint, try_out};
use reports::judge::{Comparison, Terms, judge, say};

/// Noise that is the same in every run of the test: a few percent up and down, now and then a wild one.
fn noise(block: usize, side: usize) -> f64 {
    let hash = ((block * 2 + side) as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let share = ((hash ^ (hash >> 32)) & 0xffff) as f64 / 65536.0 - 0.5;
    if hash.is_multiple_of(17) { 1.0 + share } else { 1.0 + 0.06 * share }
}

fn block(p50_ns: f64, rps: f64, rules: u64, errors: u64) -> BlockRecord {
    let at = |times: f64| (p50_ns * times) as u64;
    let (p50, p90, p99) = (at(1.0), at(1.5), at(3.0));
    let latency =
        Quantiles { count: 1000, p50, p90, p99, p999: at(9.0), max: at(20.0), mean: p50_ns };
    BlockRecord {
        requests: 1000,
        errors,
        throughput_rps: Some(rps),
        latency_ns: Some(latency),
        first_packet_ns: None,
        stages: Vec::new(),
        counts: Some(Counts { rules_walked: Some(rules), ..Counts::default() }),
        install_ms: None,
    }
}

/// Blocks of a case whose latency is `times` that of the plain one.
fn side(label: &str, side: usize, blocks: usize, times: f64, rules: u64) -> Replicates {
    let of = |i| {
        let noise = noise(i, side);
        block(200_000.0 * times * noise, 5000.0 / (times * noise), rules, 0)
    };
    Replicates::of_blocks(label, &(0..blocks).map(of).collect::<Vec<_>>())
}

fn word(comparison: &Comparison, name: &str) -> Word {
    comparison.rows.iter().find(|row| row.metric.name == name).expect("a metric of the case").word
}

fn compared(blocks: usize, times: f64, rules: u64) -> Comparison {
    let (a, b) = (side("a", 0, blocks, 1.0, 13), side("b", 1, blocks, times, rules));
    judge("case", &a, &b, &Terms::default(), &Times::Judged)
}

#[test]
fn a_clear_slowdown_is_slower_in_time_and_in_rate() {
    let comparison = compared(40, 1.1, 13);
    assert_eq!(word(&comparison, "latency p50"), Word::Slower);
    assert_eq!(word(&comparison, "throughput"), Word::Slower);
    assert_eq!(word(&compared(40, 0.9, 13), "latency p50"), Word::Faster);
    assert!(comparison.regressions().count() >= 2);
    let row = comparison.rows.iter().find(|row| row.metric.name == "latency p50").unwrap();
    let ratio = row.ratio.unwrap();
    assert!(ratio.low <= 1.1 && 1.1 <= ratio.high, "{ratio:?}");
}

#[test]
fn no_difference_is_the_same_once_that_is_shown_and_undecided_before() {
    assert_eq!(word(&compared(8, 1.0, 13), "latency p50"), Word::Undecided);
    let comparison = compared(200, 1.0, 13);
    assert_eq!(word(&comparison, "latency p50"), Word::Same);
    assert!(!comparison.is_undecided());
    assert_eq!(comparison.regressions().count(), 0);
}

#[test]
fn a_difference_below_the_minimum_effect_is_never_a_regression() {
    let comparison = compared(400, 1.01, 13);
    let row = comparison.rows.iter().find(|row| row.metric.name == "latency p50").unwrap();
    assert!(row.p.unwrap() < 0.01, "it is there, and found: {row:?}");
    assert!(matches!(row.word, Word::Same | Word::Undecided), "{row:?}");
}

#[test]
fn counts_are_exact_and_gate_without_any_statistics() {
    assert_eq!(word(&compared(1, 1.0, 13), "rules walked"), Word::Same);
    let more = compared(1, 1.0, 14);
    assert_eq!(word(&more, "rules walked"), Word::More);
    assert_eq!(more.regressions().count(), 1);
    assert_eq!(word(&compared(1, 1.0, 12), "rules walked"), Word::Fewer);
}

#[test]
fn counts_that_vary_within_a_side_are_no_counts() {
    let blocks = [block(1e5, 1.0, 13, 0), block(1e5, 1.0, 14, 0)];
    let varying = Replicates::of_blocks("a", &blocks);
    let steady = side("b", 0, 2, 1.0, 13);
    let comparison = judge("case", &varying, &steady, &Terms::default(), &Times::Judged);
    assert_eq!(word(&comparison, "rules walked"), Word::Undecided);
}

#[test]
fn errors_on_one_side_only_are_one_too_many() {
    let (clean, failing) = (side("a", 0, 9, 1.0, 13), [block(1e5, 1.0, 13, 2)]);
    let failing = Replicates::of_blocks("b", &failing);
    let judged = |a, b| judge("case", a, b, &Terms::default(), &Times::Judged);
    assert_eq!(word(&judged(&clean, &failing), "errors"), Word::More);
    assert_eq!(word(&judged(&failing, &clean), "errors"), Word::Fewer);
    assert_eq!(word(&judged(&failing, &failing), "errors"), Word::Undecided);
}

#[test]
fn times_that_may_not_be_judged_have_no_verdict_and_counts_still_do() {
    let (a, b) = (side("a", 0, 90, 1.0, 13), side("b", 1, 90, 2.0, 14));
    let why = Times::NotJudged("the kernel's processor is emulated".to_owned());
    let comparison = judge("case", &a, &b, &Terms::default(), &why);
    assert_eq!(word(&comparison, "latency p50"), Word::NotJudged);
    assert_eq!(word(&comparison, "rules walked"), Word::More);
    assert!(say::text(&comparison).contains("emulated"));
    assert!(say::junit(&[comparison]).contains("skipped=\""));
}

#[test]
fn two_runs_are_compared_without_pairing_their_blocks() {
    let (a, b) = (side("a", 0, 40, 1.0, 13), side("b", 1, 55, 1.1, 13));
    let terms = Terms { paired: false, looks: 1, ..Terms::default() };
    assert_eq!(word(&judge("case", &a, &b, &terms, &Times::Judged), "latency p50"), Word::Slower);
}

#[test]
fn what_only_one_side_has_is_named_and_not_compared() {
    let (mut a, b) = (side("a", 0, 9, 1.0, 13), side("b", 1, 9, 1.0, 13));
    a.series.retain(|series| series.metric.name != "throughput");
    let comparison = judge("case", &a, &b, &Terms::default(), &Times::Judged);
    assert_eq!(comparison.missing, ["throughput (only b)"]);
}

#[test]
fn hostile_names_stay_text_in_every_format() {
    let hostile = "<script>alert(1)</script> & \"x\" | `y` ::error::\n::warning::\u{1b}[2J";
    let a = Replicates { label: hostile.to_owned(), ..side("a", 0, 40, 1.0, 13) };
    let b = side("b", 1, 40, 1.2, 14);
    let comparison = judge(hostile, &a, &b, &Terms::default(), &Times::Judged);
    let all = [comparison];
    let junit = say::junit(&all);
    assert!(!junit.contains("<script>") && !junit.contains('\u{1b}'), "{junit}");
    assert!(!say::markdown(&all, &Terms::default()).contains("<script>"));
    assert!(!say::text(&all[0]).contains('\u{1b}'));
    // A title that could end its line would be a command of its own.
    let github = say::github(&all);
    assert!(github.lines().all(|line| line.starts_with("::error title=")), "{github}");
    let go = say::gobench(std::slice::from_ref(&a));
    assert_eq!(go.lines().count(), 40, "one line a block");
    assert!(say::openmetrics(&[a]).ends_with("# EOF\n"));
}

#[test]
fn every_format_of_a_small_comparison_is_what_it_was() {
    let (a, b) = (side("old", 0, 40, 1.0, 13), side("new", 1, 40, 1.1, 14));
    let comparison = judge("netns/iptables", &a, &b, &Terms::default(), &Times::Judged);
    let terms = Terms::default();
    let all = [comparison];
    let parts = [
        say::text(&all[0]),
        say::markdown(&all, &terms),
        say::junit(&all),
        say::github(&all),
        format!("{:#}", say::json(&all, &terms)),
        format!("{:#}", say::bencher(&[side("case", 0, 2, 1.0, 13)])),
        say::gobench(&[side("case", 0, 2, 1.0, 13)]),
        say::openmetrics(&[side("case", 0, 2, 1.0, 13)]),
    ];
    insta::assert_snapshot!(parts.join("\n----\n"));
}

#[test]
fn the_gate_tried_out_on_blocks_catches_what_is_there_and_little_else() {
    let (a, again, slow) =
        (side("a", 0, 200, 1.0, 13), side("a", 1, 200, 1.0, 13), side("b", 1, 200, 1.1, 13));
    let terms = Terms::default();
    let none = try_out(&a, &again, 60, 200, &terms, true);
    let ten = try_out(&a, &slow, 60, 200, &terms, false);
    assert!(none.alarms <= 6, "{none:?}");
    assert!(ten.p50_slower >= 190, "{ten:?}");
}

#[test]
fn the_power_curve_is_a_picture() {
    let share = |share: f64| [share, (share - 0.03).max(0.0), (share + 0.03).min(1.0)];
    let line = |budget_s: u64, shares: [f64; 5]| PowerLine {
        budget_s,
        pairs: budget_s as usize / 3,
        points: [0.0, 1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .zip(shares)
            .map(|(injected_percent, of)| PowerPoint { injected_percent, share: share(of) })
            .collect(),
    };
    let curve = PowerCurve {
        case: "netns/iptables+bridge/nodeport-remote/svc-100/newconn".to_owned(),
        runs: 1000,
        lines: vec![
            line(60, [0.004, 0.01, 0.06, 0.7, 0.98]),
            line(180, [0.007, 0.03, 0.2, 0.99, 1.0]),
        ],
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("power.png");
    reports::render_power(&curve, &file).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    // IHDR (PNG, section 11.2.2): width and height.
    assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
    assert_eq!(&bytes[16..24], &[0, 0, 5, 0, 0, 0, 3, 32]);
    let refused = reports::render_power(&curve, &dir.path().join("no/such/folder.png"));
    assert!(refused.unwrap_err().to_string().starts_with("failed to draw "));
}
