// SPDX-License-Identifier: Apache-2.0
//! Reports of cases on several kernels: which one is always said, and times of two are divided only
//! where a run was asked for both.

use std::fs;
use std::path::Path;

use record::{CaseRecord, Fidelity, GuestKernel, Histogram, Run, Status};
use reports::analysis::fidelity::{notices, of_case};
use reports::analysis::group::groups;
use reports::analysis::headline::headline;
use reports::analysis::kernel::sentence;
use reports::analysis::pair::matches;
use reports::analysis::slope::families;
use reports::analysis::summary::rows;
use reports::table::{Look, Table};

use crate::support::{Spec, run_on, tcg, uml};
use crate::tags;

type Case = (CaseRecord, Option<Histogram>);

const TCG: &str = "qemu-6.1.0-40-amd64";

fn case(mode: &str, services: u32, kernel: &str) -> Case {
    let spec = Spec::new(mode, "nodeport-remote", services, "newconn").on(kernel);
    let (mut case, latency) = spec.measured(200);
    // As a lab records it: a guest's own word, where it differs from the run's.
    case.fidelity = (kernel == TCG).then_some(Fidelity::Functional);
    (case, Some(latency))
}

fn cases(modes: &[&str], services: &[u32], kernels: &[&str]) -> Vec<Case> {
    let mut cases = Vec::new();
    for &n in services {
        for kernel in kernels {
            cases.extend(modes.iter().map(|mode| case(mode, n, kernel)));
        }
    }
    cases
}

fn made(home: &Path, kernels: Vec<GuestKernel>, cases: Vec<Case>) -> Vec<Run> {
    vec![run_on(&home.join("run"), "r1", kernels, cases)]
}

fn page(home: &Path, runs: &[Run]) -> (String, String) {
    let rendered = reports::render(runs, &home.join("out")).expect("a report");
    let page = fs::read_to_string(&rendered.html).expect("the page");
    tags::read(&page).expect("a page that is well formed");
    (page, fs::read_to_string(&rendered.markdown).expect("its twin"))
}

fn section<'a>(page: &'a str, id: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("<section id=\"{id}\">")).expect("the section");
    rest.split_once("\n</section>").expect("its end").0
}

#[test]
fn the_header_says_which_kernel_whichever_it_was() {
    let home = tempfile::tempdir().unwrap();
    let said = |kernels: Vec<GuestKernel>, labels: &[&str]| {
        let dir = tempfile::tempdir_in(home.path()).unwrap();
        let runs = made(dir.path(), kernels, cases(&["none"], &[1], labels));
        let (page, markdown) = page(dir.path(), &runs);
        let sentence = sentence(&runs[0]);
        assert!(page.contains(&format!("<strong>Kernel.</strong> {sentence}</p>")), "{sentence}");
        assert!(markdown.contains("> **Kernel.** "));
        sentence
    };
    assert_eq!(said(vec![], &["host"]), "All cases ran on the host’s kernel, 6.18.0.");
    assert_eq!(
        said(vec![uml("7.2.13")], &["uml-7.2.13"]),
        "All cases ran on kernel uml-7.2.13 (User-Mode Linux 7.2.13, a process), not on the host’s, \
         6.18.0."
    );
    assert_eq!(
        said(vec![uml("7.2.13"), tcg()], &[TCG, "uml-7.2.13", "host"]),
        "Cases ran on 3 kernels: the host’s (6.18.0), uml-7.2.13 (User-Mode Linux 7.2.13, a process) \
         and qemu-6.1.0-40-amd64 (Linux 6.1.0-40-amd64 in QEMU, on an emulated processor). Times are \
         compared within one, except in a section that says so."
    );
    assert_eq!(
        said(vec![], &["uml-x"]),
        "All cases ran on kernel uml-x (of which the manifest says nothing), not on the host’s, 6.18.0."
    );
}

#[test]
fn every_name_of_a_case_says_its_kernel_once_one_is_not_the_hosts() {
    let home = tempfile::tempdir().unwrap();
    let all = cases(&["none", "iptables"], &[1, 1000], &["host", "uml-7.2.13"]);
    let runs = made(home.path(), vec![uml("7.2.13")], all);
    for group in groups(&runs) {
        let on = match group.key.kernel {
            "host" => "netns on the host’s kernel",
            label => &format!("netns on kernel {label}"),
        };
        assert!(group.title.ends_with(on), "{}", group.title);
        assert_eq!(group.key.variant, "", "a kernel in the id is no axis of its own");
    }
    let (page, markdown) = page(home.path(), &runs);
    for id in ["counts", "probes", "evidence", "lab"] {
        let section = section(&page, id);
        let hosts = section.matches("netns/").count();
        assert!(hosts >= 4, "{id}");
        assert_eq!(section.matches("newconn (host’s kernel)").count(), hosts, "{id}");
        assert_eq!(section.matches("netns+uml-7.2.13/").count(), hosts, "{id}");
    }
    assert!(markdown.contains("netns on kernel uml-7.2.13"));
    let table = Table::of(&runs).text(Look::default());
    assert!(table.lines().nth(1).unwrap().starts_with("kernel "), "{table}");
    assert!(table.starts_with("Cases ran on 2 kernels: "), "{table}");
    // Files of charts, too: none is written over by the other kernel's.
    let pngs = fs::read_dir(home.path().join("out")).unwrap();
    let names: Vec<_> = pngs.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|n| n.starts_with("latency-uml-7.2.13-bridge-")), "{names:?}");
    for sentence in &headline(&runs)[..2] {
        assert!(
            sentence.contains(", on kernel uml-7.2.13") || sentence.contains(", on the host’s")
        );
    }
}

#[test]
fn a_report_of_the_hosts_kernel_alone_names_no_kernel_in_its_tables() {
    let home = tempfile::tempdir().unwrap();
    let runs = made(home.path(), vec![], cases(&["none", "iptables"], &[1], &["host"]));
    assert!(groups(&runs).iter().all(|group| !group.title.contains("kernel")));
    assert!(!Table::of(&runs).text(Look::default()).contains("kernel"));
    assert!(!page(home.path(), &runs).0.contains("(host’s kernel)"));
}

#[test]
fn nothing_is_divided_across_kernels_outside_the_section_that_says_so() {
    let home = tempfile::tempdir().unwrap();
    // The floor is there on one kernel, the modes on both.
    let mut all = cases(&["none", "iptables"], &[1, 1000], &["uml-7.2.13"]);
    all.extend(cases(&["nftables"], &[1, 1000], &["host"]));
    let runs = made(home.path(), vec![uml("7.2.13")], all);
    for group in groups(&runs) {
        let base = group.baseline.as_ref();
        assert_eq!(base.is_some(), group.key.kernel != "host", "{}", group.title);
        assert!(base.is_none_or(|base| base.case.kernel == group.key.kernel));
        assert!(group.series().iter().all(|one| one.case.kernel == group.key.kernel));
        for row in rows(&group) {
            assert_eq!(row.latency_ratio.is_some(), group.key.kernel != "host");
        }
    }
    let families = families(&runs);
    assert_eq!(families.len(), 2);
    for family in &families {
        let modes: Vec<_> = family.lines.iter().map(|line| line.mode.as_str()).collect();
        assert_eq!(modes.contains(&"nftables"), family.key.kernel == "host", "{modes:?}");
        assert!(family.lines.iter().all(|line| line.points.len() == 2));
    }
    assert!(matches(&groups(&runs), &runs).is_empty(), "no case is equal but for its kernel");
    let (page, _) = page(home.path(), &runs);
    assert!(!page.contains("Kernel against kernel"));
    // Each sentence about times is of one kernel.
    for sentence in &headline(&runs)[..2] {
        let hosts = sentence.contains("host’s kernel");
        assert_eq!(sentence.contains("through nftables"), hosts, "{sentence}");
        assert_eq!(sentence.contains("through iptables"), !hosts, "{sentence}");
    }
}

#[test]
fn two_kernels_of_one_kind_stand_against_each_other_when_one_run_has_both() {
    let home = tempfile::tempdir().unwrap();
    let mut all = cases(&["none", "iptables"], &[1, 1000], &["uml-7.2.13", "uml-7.3.0"]);
    for (case, _) in all.iter_mut().filter(|(case, _)| case.kernel == "uml-7.3.0") {
        let latency = case.latency_ns.as_mut().unwrap();
        latency.p50 *= 2;
        case.counts.as_mut().unwrap().hooks_entered = Some(90);
    }
    let runs = made(home.path(), vec![uml("7.2.13"), uml("7.3.0")], all);
    let matches = matches(&groups(&runs), &runs);
    assert_eq!(matches.len(), 1);
    assert_eq!(matches[0].kernels, ["uml-7.2.13", "uml-7.3.0"]);
    let pairs = &matches[0].pairs;
    assert_eq!(pairs.len(), 4);
    assert!(pairs.iter().all(|pair| pair.latency_ratio == Some(2.0)));
    assert!(pairs.iter().all(|pair| pair.first_packet_ratio == Some(1.0)));
    assert!(matches[0].caution().contains("a ratio is the difference between the kernels"));
    let (page, markdown) = page(home.path(), &runs);
    let section = section(&page, "kernels");
    assert!(section.contains("<h3>uml-7.3.0 against uml-7.2.13</h3>"));
    assert!(
        section.contains(">×2.00<") && section.contains(">84 → 90<") && section.contains(">1,007<")
    );
    assert!(markdown.contains("## Kernel uml-7.3.0 against uml-7.2.13"));
}

#[test]
fn a_guest_against_the_host_is_marked_as_two_machines() {
    let home = tempfile::tempdir().unwrap();
    let all = cases(&["none"], &[1], &["uml-7.2.13", "host"]);
    let runs = made(home.path(), vec![uml("7.2.13")], all);
    let matches = matches(&groups(&runs), &runs);
    assert_eq!(matches[0].kernels, ["host", "uml-7.2.13"], "the host's is what ratios are to");
    assert!(matches[0].pairs[0].latency_ratio.is_some());
    assert!(matches[0].caution().starts_with("These are two different machines in effect: "));
}

#[test]
fn times_of_an_emulated_processor_are_told_in_words_and_counts_in_figures() {
    let home = tempfile::tempdir().unwrap();
    let all = cases(&["none", "iptables", "nftables"], &[1, 1000], &[TCG]);
    let runs = made(home.path(), vec![tcg()], all);
    let groups = groups(&runs);
    assert!(groups.iter().all(|group| group.baseline.is_none() && group.series().is_empty()));
    assert!(families(&runs).is_empty());
    let said = headline(&runs);
    assert_eq!(
        said,
        [
            "6 cases were measured, from 1,200 answered requests.",
            "They ran on an emulated processor, whose times mean nothing: counts and proofs are all \
             that is told of them.",
        ]
    );
    let (page, markdown) = page(home.path(), &runs);
    assert!(page.contains(
        "qemu-6.1.0-40-amd64 has no better processor here because a probe guest hung under KVM."
    ));
    assert!(page.contains("<strong>Fidelity: functional.</strong>"));
    let summary = section(&page, "summary");
    assert_eq!(summary.matches(">emulated<").count(), 6 * 4);
    assert!(summary.contains("no times and no ratios: on an emulated processor they mean nothing"));
    for unit in [" ns<", " µs<", " ms<", "×1 is"] {
        for id in ["summary", "evidence", "lab", "probes"] {
            assert!(!section(&page, id).contains(unit), "{id}: {unit}");
        }
    }
    assert!(!page.contains("<svg") && !page.contains("id=\"groups\""), "nothing is drawn");
    assert!(section(&page, "counts").contains("1,007"));
    assert!(section(&page, "evidence").contains("conntrack shows the probe connection translated"));
    assert!(
        section(&page, "evidence").contains("what a request takes on it is the emulator’s time")
    );
    let lines = markdown.lines().filter(|line| line.contains("| emulated |"));
    assert_eq!(lines.count(), 12, "six in the summary, six among the probes");
    let table = Table::of(&runs).text(Look::default());
    assert!(table.contains("emulated: times of an emulated processor mean nothing"), "{table}");
    assert_eq!(table.lines().filter(|line| line.contains("  emulated  emulated")).count(), 6);
}

#[test]
fn an_emulated_processor_against_a_real_one_compares_counts_only() {
    let home = tempfile::tempdir().unwrap();
    let all = cases(&["iptables"], &[1, 1000], &["uml-7.2.13", TCG]);
    let runs = made(home.path(), vec![uml("7.2.13"), tcg()], all);
    let groups = groups(&runs);
    let matches = matches(&groups, &runs);
    let pairs = &matches[0].pairs;
    assert!(pairs.iter().all(|pair| pair.timed == [true, false] && pair.latency_ratio.is_none()));
    assert!(matches[0].caution().starts_with("No times are compared: "));
    let (page, _) = page(home.path(), &runs);
    let section = section(&page, "kernels");
    // The emulated kernel's two times and both ratios, of two cases; the other kernel's are there.
    assert_eq!(section.matches(">emulated<").count(), 2 * 4);
    assert!(section.contains(" µs<"));
    assert!(section.contains(">1,007<"));
    // What is timed still is, and each fidelity says of which kernel it is.
    let words: Vec<_> = notices(&runs[0]).into_iter().map(|n| (n.word, n.of)).collect();
    assert_eq!(
        words,
        [
            ("relative", " on kernel uml-7.2.13".to_owned()),
            ("functional", " on kernel qemu-6.1.0-40-amd64".to_owned()),
        ]
    );
    assert!(headline(&runs)[0].contains("on kernel uml-7.2.13"));
    assert!(headline(&runs).last().unwrap().starts_with("Of these, 2 ran on an emulated"));
}

#[test]
fn a_kernels_fidelity_holds_even_where_a_case_claims_more() {
    let home = tempfile::tempdir().unwrap();
    let mut all = cases(&["none"], &[1], &[TCG]);
    all[0].0.fidelity = Some(Fidelity::Absolute);
    let runs = made(home.path(), vec![tcg()], all);
    assert_eq!(of_case(&runs[0], &runs[0].summary.cases[0]), Fidelity::Functional);
}

#[test]
fn runs_on_user_mode_linux_are_not_compared_in_time() {
    let home = tempfile::tempdir().unwrap();
    // The floor in one run, the mode in the other; and the same case in both.
    let first = run_on(
        &home.path().join("a"),
        "a",
        vec![uml("7.2.13")],
        cases(&["none", "nftables"], &[1], &["uml-7.2.13"]),
    );
    let mut other = uml("7.2.13");
    other.sha256 = "0".repeat(64);
    let second = run_on(
        &home.path().join("b"),
        "b",
        vec![other],
        cases(&["nftables"], &[1, 1000], &["uml-7.2.13"]),
    );
    let runs = [first, second];
    let groups = groups(&runs);
    for group in &groups {
        assert_eq!(group.baseline.is_some(), group.key.run == 0);
        assert!(group.series().len() <= 2);
    }
    assert!(matches(&groups, &runs).is_empty(), "one kernel's label in two runs is no pair");
    assert!(families(&runs).iter().all(|family| family.key.run == 1));
    let (page, _) = page(home.path(), &runs);
    assert!(page.contains("Times of it say something beside other times of the same run, and nothing beside those of another run."));
    assert!(page.contains("the labs’ own kernels differ"));
}

#[test]
fn the_method_describes_each_kernel() {
    let home = tempfile::tempdir().unwrap();
    let all = cases(&["none"], &[1], &["uml-7.2.13", TCG]);
    let runs = made(home.path(), vec![uml("7.2.13"), tcg()], all);
    let (page, markdown) = page(home.path(), &runs);
    for text in [&page, &markdown] {
        for part in [
            "uml-7.2.13",
            "/home/me/.cache/nic2pod/kernels/7.2.13-1a2b3c4d/linux",
            "9f86d081884c",
            "1a2b3c4d884c",
            "tcg: a probe guest hung under KVM",
            "functional",
            "2.00 GiB",
            "352 ms",
            "8.14 s",
        ] {
            assert!(text.contains(part), "{part}");
        }
        assert!(!text.contains("9f86d081884c7"), "digests are short");
    }
}

#[test]
fn a_failed_and_a_skipped_case_of_a_guest_keep_their_reasons() {
    let home = tempfile::tempdir().unwrap();
    let spec = |mode| Spec::new(mode, "nodeport-remote", 1, "newconn").on(TCG);
    let all = vec![(spec("ipvs").skipped(), None), (spec("nftables").failed(), None)];
    let runs = made(home.path(), vec![tcg()], all);
    let (page, _) = page(home.path(), &runs);
    assert!(section(&page, "failed").contains("netns+qemu-6.1.0-40-amd64/nftables+bridge"));
    assert!(section(&page, "skipped").contains("kernel option CONFIG_IP_VS"));
    let table = Table::of(&runs).text(Look::default());
    assert!(!table.contains("  emulated  "), "what never ran has no times to be emulated: {table}");
    assert_eq!(runs[0].summary.cases[0].status, Status::Skipped);
    assert_eq!(headline(&runs).len(), 1);
}

#[test]
fn a_kernels_texts_stay_text() {
    let home = tempfile::tempdir().unwrap();
    let hostile = "<script>alert(1)</script>|\u{1b}[31m";
    let mut kernel = tcg();
    kernel.label = hostile.to_owned();
    kernel.accelerator_reason = Some(hostile.to_owned());
    kernel.path = hostile.to_owned();
    kernel.release = hostile.to_owned();
    let all = cases(&["none"], &[1], &["host"]).into_iter().chain([{
        let (mut case, latency) = case("none", 1, TCG);
        case.kernel = hostile.to_owned();
        (case, latency)
    }]);
    let runs = made(home.path(), vec![kernel], all.collect());
    let rendered = reports::render(&runs, &home.path().join("out")).unwrap();
    let page = fs::read_to_string(rendered.html).unwrap();
    assert!(tags::read(&page).unwrap().runs_only_its_own(&page));
    assert!(!fs::read_to_string(rendered.markdown).unwrap().contains("<script>"));
    assert!(!Table::of(&runs).text(Look::default()).contains('\u{1b}'));
}
