// SPDX-License-Identifier: Apache-2.0
//! Stages on the page: their words and their two charts.

use std::fs;

use record::{CaseRecord, StageRecord};
use reports::render;

use crate::support::{Spec, run};

/// Stage names as the lab writes them, beyond those of the hand-made records.
const OTHERS: [&str; 4] = [
    "body",
    "nic_rx+conntrack+proxy+route+filter+masq+cni",
    "cni+nic_rx+conntrack+proxy+route+filter+masq",
    "pod_rx+wakeup+app+pod_tx",
];

fn page(change: impl Fn(&mut CaseRecord)) -> String {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (mut case, latency) = Spec::new("iptables", "nodeport-remote", 1, "newconn").measured(70);
    change(&mut case);
    let runs = [run(&home.path().join("run"), "r", vec![(case, Some(latency))])];
    let rendered = render(&runs, &home.path().join("out")).expect("a report");
    fs::read_to_string(rendered.html).expect("the page")
}

fn preceded_by(name: &'static str) -> impl Fn(&mut CaseRecord) {
    move |case| {
        let stage = StageRecord { name: name.to_owned(), ..case.stages[0].clone() };
        case.stages.insert(0, stage);
    }
}

/// Lettering of the chart whose name starts with `start`.
fn lettering(page: &str, start: &str) -> Vec<String> {
    let (_, chart) = page.split_once(&format!("aria-label=\"{start}")).expect(start);
    let (chart, _) = chart.split_once("</svg>").expect("the chart's end");
    chart.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn every_stage_the_lab_writes_is_explained() {
    const UNKNOWN: &str = "in this version&#39;s glossary";
    assert!(page(preceded_by("warp")).contains(UNKNOWN), "an unknown one is said to be");
    for name in OTHERS {
        assert!(!page(preceded_by(name)).contains(UNKNOWN), "{name}");
    }
}

#[test]
fn the_networks_chart_leaves_out_the_stages_of_client_and_server() {
    let page = page(preceded_by("body"));
    let whole = lettering(&page, "Mean time in each stage, stacked");
    let node = lettering(&page, "Mean time in each stage outside client and server");
    let has = |lines: &[String], name: &str| lines.iter().any(|line| line == name);
    for name in ["connect", "client_tx", "app", "client_rx", "body"] {
        assert!(has(&whole, name) && !has(&node, name), "{name}");
    }
    for name in ["wire", "nic_rx+conntrack+proxy+route+filter+masq", "pod_rx+wakeup", "pod_tx"] {
        assert!(has(&whole, name) && has(&node, name), "{name}");
    }
}
