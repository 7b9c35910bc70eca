// SPDX-License-Identifier: Apache-2.0
//! What is read as text: the markdown twin, the terminal's table, and the words and fits in them.

use std::fs;
use std::path::Path;

use record::Run;
use reports::analysis::group::{Group, groups};
use reports::analysis::headline::headline;
use reports::analysis::slope::{Part, families};
use reports::table::{Look, Table};

use crate::support::{Spec, mixed, run};

fn sample(dir: &Path) -> Run {
    run(&dir.join("run"), "2026-11-23T0930-7f3a", mixed(&[1, 1000], &["keepalive", "newconn"], 500))
}

#[test]
fn the_markdown_twin_has_headline_table_skips_stages_and_host() {
    let home = tempfile::tempdir().unwrap();
    let rendered = reports::render(&[sample(home.path())], &home.path().join("out")).unwrap();
    insta::assert_snapshot!(fs::read_to_string(rendered.markdown).unwrap());
}

#[test]
fn a_wide_terminal_gets_every_column() {
    let home = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(Table::of(&[sample(home.path())]).text(Look::default()));
}

#[test]
fn a_narrow_terminal_is_told_once_what_all_cases_share() {
    let home = tempfile::tempdir().unwrap();
    let mut one = sample(home.path());
    one.summary.cases.truncate(5);
    let text = Table::of(&[one]).text(Look { colour: false, width: Some(80) });
    assert!(
        text.lines().take_while(|line| !line.is_empty()).all(|line| line.chars().count() <= 100)
    );
    insta::assert_snapshot!(text);
}

#[test]
fn colour_adds_sequences_and_changes_no_text() {
    let home = tempfile::tempdir().unwrap();
    let table = Table::of(&[sample(home.path())]);
    let coloured = table.text(Look { colour: true, width: None });
    assert!(coloured.contains("\x1b[31m") && coloured.contains("\x1b[2m"));
    let bare = ["\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[0m"]
        .iter()
        .fold(coloured, |text, code| text.replace(code, ""));
    assert_eq!(bare, table.text(Look::default()));
}

#[test]
fn the_headline_is_computed_from_the_figures() {
    let home = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(headline(&[sample(home.path())]).join("\n"));
}

#[test]
fn a_slope_is_what_the_figures_were_made_with() {
    let home = tempfile::tempdir().unwrap();
    let runs = [sample(home.path())];
    let families = families(&runs);
    // Keepalive cases have no first packet and no connect, so only newconn makes a family.
    assert_eq!(families.len(), 1);
    let lines: Vec<String> = families[0]
        .lines
        .iter()
        .filter(|l| l.part == Part::P50)
        .map(|l| {
            let points: Vec<_> = l.points.iter().map(|p| (p.services, p.ns.round())).collect();
            let rule = l.per_rule_ns().map(|(ns, _)| format!("{ns:.2}"));
            format!("{:?} {} {points:?} {:.2} {rule:?}", l.metric, l.mode, l.fit.slope)
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn cases_that_differ_only_by_mode_share_a_group_and_none_is_its_baseline() {
    let home = tempfile::tempdir().unwrap();
    let runs = [sample(home.path())];
    let line = |group: &Group<'_>| {
        let modes: Vec<&str> = group.cases.iter().map(|case| case.mode.as_str()).collect();
        let base = group.baseline.as_ref().map(|base| base.label.as_str());
        format!("{}: {} (to {})", group.title, modes.join(" "), base.unwrap_or("nothing"))
    };
    insta::assert_snapshot!(groups(&runs).iter().map(line).collect::<Vec<_>>().join("\n"));
}

#[test]
fn the_floor_may_be_on_a_route_of_its_own() {
    let home = tempfile::tempdir().unwrap();
    let cases = [
        ("none", "direct-remote", 1),
        ("none", "direct-local", 1),
        ("ipvs", "nodeport-remote", 1000),
    ];
    let cases = cases.map(|(mode, route, n)| {
        let (case, latency) = Spec::new(mode, route, n, "newconn").measured(100);
        (case, Some(latency))
    });
    let runs = [run(&home.path().join("run"), "r", cases.into())];
    let groups = groups(&runs);
    let base = groups[2].baseline.as_ref().unwrap();
    assert_eq!((base.label.as_str(), base.in_group), ("none (direct-remote)", false));
    assert_eq!(groups[2].series().len(), 2);
}

#[test]
fn an_axis_that_is_only_in_the_id_keeps_groups_apart() {
    let home = tempfile::tempdir().unwrap();
    let cases = ["first", "last"].map(|position| {
        let (mut case, latency) =
            Spec::new("iptables", "nodeport-remote", 1000, "newconn").measured(100);
        case.id = format!("netns/iptables+bridge/nodeport-remote/svc-1000-{position}/newconn");
        (case, Some(latency))
    });
    let runs = [run(&home.path().join("run"), "r", cases.into())];
    let groups = groups(&runs);
    assert_eq!(
        groups.iter().map(|g| g.key.variant.as_str()).collect::<Vec<_>>(),
        ["first", "last"]
    );
}
