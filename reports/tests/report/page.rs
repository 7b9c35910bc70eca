// SPDX-License-Identifier: Apache-2.0
//! The page and the charts beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use record::{Fidelity, Run};
use reports::{Rendered, render};

use crate::support::{Spec, mixed, run};
use crate::tags;
use crate::walks::{infected, walk};

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn rendered(runs: &[Run], home: &Path) -> (Rendered, String) {
    let rendered = render(runs, &home.join("out")).expect("a report");
    let page = fs::read_to_string(&rendered.html).expect("the page");
    (rendered, page)
}

#[test]
fn a_page_is_well_formed_and_its_links_lead_somewhere() {
    let home = home();
    let one =
        run(&home.path().join("run"), "r1", mixed(&[1, 1000], &["keepalive", "newconn"], 500));
    let (rendered, page) = rendered(&[one], home.path());
    let used = tags::read(&page).unwrap();
    for link in &used.links {
        match link.strip_prefix('#') {
            Some(id) => assert!(used.ids.contains(id), "{link} leads nowhere"),
            None => assert!(
                home.path().join("out").join(link).is_file(),
                "{link} is not beside the page"
            ),
        }
    }
    for element in ["h1", "h2", "h3", "th", "nav", "main", "figcaption", "title"] {
        assert!(used.elements.contains(element), "no {element}");
    }
    assert_eq!(rendered.missing, Vec::<String>::new());
    // Three charts over Services, and four for each of the four groups with figures.
    assert_eq!(rendered.pngs.len(), 19);
}

/// A run of one case that kept the walks.
fn with_walks(home: &Path, walks: Vec<record::Walk>) -> Run {
    let (case, latency) = Spec::new("iptables", "nodeport-remote", 1000, "newconn").measured(70);
    let dir = home.join("run");
    let one = run(&dir, "r1", vec![(case, Some(latency))]);
    let file = dir.join("cases").join(&one.summary.cases[0].id).join("walks.json");
    let text = serde_json::to_string(&walks).expect("walks are plain data");
    fs::write(file, text).expect("the case's folder is there");
    one
}

#[test]
fn walks_are_on_the_page_with_the_medians_of_their_case() {
    let home = home();
    let one = with_walks(home.path(), vec![walk(), walk(), walk(), walk()]);
    let (_, page) = rendered(&[one], home.path());
    let used = tags::read(&page).unwrap();
    assert!(used.ids.contains("walks") && used.links.contains("#walks"));
    let (_, section) = page.split_once("<section id=\"walks\">").unwrap();
    let (section, _) = section.split_once("</section>").unwrap();
    assert!(section.contains("<h2>The slowest requests</h2>"));
    assert!(section.contains("netns/iptables+bridge/nodeport-remote/svc-1000/newconn"));
    // Three are drawn, the fourth is said to be in the record.
    assert_eq!(section.matches("<svg role=\"img\"").count(), 3);
    assert!(section.contains("1 further in the case’s <code>walks.json</code>"));
    // Support's records say 12.1 µs for app, 0.93 of it the median.
    assert!(section.contains("<strong>17.0 µs</strong> 1.2 % of it, up to step 24, pod2-1 write called (app); the case’s median there is 11.3 µs"));
    assert!(
        section.contains("nat KUBE-SERVICES rule 1,001 of 1,001, 1,001 rules tested before it")
    );
}

#[test]
fn a_trace_that_is_in_a_record_is_called_one() {
    let home = home();
    let traced = record::Walk { kept: "trace".to_owned(), ..walk() };
    let (_, page) = rendered(&[with_walks(home.path(), vec![traced])], home.path());
    assert!(page.contains("<h2>One request, step by step</h2>"));
}

#[test]
fn walks_that_cannot_be_read_are_said_to_be() {
    let home = home();
    let one = with_walks(home.path(), Vec::new());
    let file = one.dir.join("cases").join(&one.summary.cases[0].id).join("walks.json");
    fs::write(file, "[{\"case\": <script>").unwrap();
    let (_, page) = rendered(&[one], home.path());
    tags::read(&page).unwrap();
    assert!(page.contains("Walks not shown: failed to read"), "the page names the file");
}

#[test]
fn walks_of_hostile_texts_stay_text_in_the_report() {
    let home = home();
    let hostile = infected("</svg><script>alert(1)</script>\"'");
    let (_, page) = rendered(&[with_walks(home.path(), vec![hostile])], home.path());
    assert!(tags::read(&page).unwrap().runs_only_its_own(&page));
}

#[test]
fn counts_and_the_probes_own_cost_are_on_the_page() {
    let home = home();
    let one = run(&home.path().join("run"), "r1", mixed(&[1000], &["newconn"], 200));
    let (_, page) = rendered(&[one], home.path());
    let part = |id: &str| {
        let (_, rest) = page.split_once(&format!("<section id=\"{id}\">")).unwrap();
        rest.split_once("</section>").unwrap().0.to_owned()
    };
    let counts = part("counts");
    for figure in ["1,007", ">84<", "1,713", ">2<"] {
        assert!(counts.contains(figure), "{figure}");
    }
    let probes = part("probes");
    for figure in ["+1.2 %<small>100 µs → 101 µs", "-0.9 %<small>9,900 → 9,810", "412 ns", "99.8 %"]
    {
        assert!(probes.contains(figure), "{figure}");
    }
    assert!(probes.contains("in 4 cases: engine bpf needs CAP_BPF; found a process without it"));
}

#[test]
fn headers_have_a_scope_and_charts_a_name() {
    let home = home();
    let one = run(&home.path().join("run"), "r1", mixed(&[1, 1000], &["newconn"], 200));
    let (rendered, page) = rendered(&[one], home.path());
    let count = |text: &str| page.matches(text).count();
    assert_eq!(count("<h1>"), 1);
    let scoped = ["col", "row", "rowgroup"].map(|scope| count(&format!("<th scope=\"{scope}\"")));
    assert_eq!(count("<th ") + count("<th>"), scoped.iter().sum::<usize>());
    let labels: Vec<&str> = page.split("<svg role=\"img\" aria-label=\"").skip(1).collect();
    assert_eq!((labels.len(), rendered.pngs.len()), (count("<svg"), count("<svg")));
    for label in labels {
        let (label, rest) = label.split_once('"').unwrap();
        assert!(!label.is_empty() && rest.contains(&format!("<title>{label}</title>")), "{label}");
    }
}

#[test]
fn rendering_twice_gives_the_same_bytes() {
    let home = home();
    let runs = [run(&home.path().join("run"), "r1", mixed(&[1, 1000], &["newconn"], 200))];
    let files = |out: &str| -> BTreeMap<_, _> {
        let out = home.path().join(out);
        render(&runs, &out).unwrap();
        let entries = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap());
        entries.map(|e| (e.file_name(), fs::read(e.path()).unwrap())).collect()
    };
    let (first, second) = (files("a"), files("b/deeper"));
    // Page, markdown, three charts over Services, four for each Service count.
    assert_eq!((first.len(), second.len()), (13, 13));
    for (name, bytes) in &first {
        assert!(bytes == &second[name], "{} differs", name.display());
    }
}

#[test]
fn every_png_is_a_picture_of_the_size_its_svg_has() {
    let home = home();
    let one = run(&home.path().join("run"), "r1", mixed(&[1, 1000], &["newconn"], 500));
    let (rendered, page) = rendered(&[one], home.path());
    assert!(!rendered.pngs.is_empty());
    for png in &rendered.pngs {
        let bytes = fs::read(png).unwrap();
        assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n", "{png:?}");
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let canvas = format!("viewBox=\"0 0 {} {}\"", number(16), number(20));
        assert!(page.contains(&canvas), "{png:?} is {canvas}");
        // A canvas that stayed white packs to almost nothing.
        assert!(bytes.len() > 4096, "{png:?} has {} bytes", bytes.len());
    }
}

#[test]
fn nothing_is_fetched_and_one_script_runs() {
    let home = home();
    let one = run(&home.path().join("run"), "r1", mixed(&[1], &["newconn"], 200));
    let (_, page) = rendered(&[one], home.path());
    let used = tags::read(&page).unwrap();
    for element in ["link", "img", "iframe", "object"] {
        assert!(!used.elements.contains(element), "{element}");
    }
    assert!(used.runs_only_its_own(&page));
    let outside = page.replace("http://www.w3.org/2000/svg", "").replace("url(#", "");
    assert!(
        !outside.contains("http://") && !outside.contains("https://") && !outside.contains("url(")
    );
}

#[test]
fn a_run_without_cases_still_makes_a_page() {
    let home = home();
    let one = run(&home.path().join("run"), "r1", Vec::new());
    let (rendered, page) = rendered(&[one], home.path());
    tags::read(&page).unwrap();
    assert!(page.contains("The record holds no cases."));
    assert!(rendered.pngs.is_empty());
}

#[test]
fn no_run_at_all_still_makes_a_page() {
    let home = home();
    let (_, page) = rendered(&[], home.path());
    tags::read(&page).unwrap();
}

#[test]
fn a_run_of_skips_says_why_instead_of_showing_figures() {
    let home = home();
    let skip = |route| (Spec::new("ipvs", route, 1, "newconn").skipped(), None);
    let one =
        run(&home.path().join("run"), "r1", vec![skip("nodeport-remote"), skip("nodeport-local")]);
    let (rendered, page) = rendered(&[one], home.path());
    tags::read(&page).unwrap();
    assert!(page.contains("Nothing was measured: 2 skipped with a reason."));
    assert!(
        page.contains("kernel option CONFIG_IP_VS")
            && page.contains("cargo xtask bench --kernel uml")
    );
    assert!(!page.contains("Side by side") && rendered.pngs.is_empty());
}

#[test]
fn a_chart_without_its_histogram_is_replaced_by_the_reason() {
    let home = home();
    let (case, _) = Spec::new("iptables", "nodeport-remote", 1, "newconn").measured(200);
    let one = run(&home.path().join("run"), "r1", vec![(case, None)]);
    let (rendered, page) = rendered(&[one], home.path());
    tags::read(&page).unwrap();
    assert_eq!(rendered.missing.len(), 1, "{:?}", rendered.missing);
    assert!(page.contains("Chart not drawn: no case has a latency histogram"));
    assert_eq!(rendered.pngs.len(), 3);
}

#[test]
fn a_damaged_histogram_is_named_and_the_other_curves_are_drawn() {
    let home = home();
    let measured = |mode| {
        let (case, latency) = Spec::new(mode, "nodeport-remote", 1, "newconn").measured(200);
        (case, Some(latency))
    };
    let dir = home.path().join("run");
    let one = run(&dir, "r1", vec![measured("none"), measured("iptables")]);
    let file =
        dir.join("cases/netns/none+bridge/nodeport-remote/svc-1/newconn/latency.histogram.json");
    fs::write(&file, "{\"buckets\": [[1,").unwrap();
    let (rendered, page) = rendered(&[one], home.path());
    assert_eq!(rendered.pngs.len(), 4);
    assert!(page.contains("Not drawn: none: failed to read"), "the caption names it");
}

#[test]
fn a_png_that_cannot_be_written_is_reported_and_the_page_is_whole() {
    let home = home();
    let out = home.path().join("out");
    // A directory where the file should go: refused even to root.
    fs::create_dir_all(out.join("stages-bridge-nodeport-remote-svc-1-newconn.png")).unwrap();
    let (case, latency) = Spec::new("none", "nodeport-remote", 1, "newconn").measured(200);
    let one = run(&home.path().join("run"), "r1", vec![(case, Some(latency))]);
    let (rendered, page) = rendered(&[one], home.path());
    assert_eq!((rendered.pngs.len(), rendered.missing.len()), (3, 1), "{:?}", rendered.missing);
    assert!(page.contains("aria-label=\"Mean time in each stage"), "the SVG is there all the same");
}

#[test]
fn figures_that_no_chart_can_hold_do_not_stop_the_report() {
    let home = home();
    let (mut case, latency) = Spec::new("none", "nodeport-remote", 1, "newconn").measured(200);
    // JSON has no infinities, so the record is changed after it was read.
    let mut one = run(&home.path().join("run"), "r1", vec![(case.clone(), Some(latency))]);
    case.throughput_rps = Some(f64::INFINITY);
    case.iterations[0].throughput_rps = f64::NAN;
    case.stages[0].mean_ns = -5.0;
    case.stages[1].mean_ns = 1e300;
    one.summary.cases = vec![case];
    let (_, page) = rendered(&[one], home.path());
    tags::read(&page).unwrap();
}

#[test]
fn runs_of_different_hosts_come_with_a_warning() {
    let home = home();
    let case = |mode| {
        let (case, latency) = Spec::new(mode, "nodeport-remote", 1, "newconn").measured(200);
        vec![(case, Some(latency))]
    };
    let first = run(&home.path().join("a"), "first", case("none"));
    let mut second = run(&home.path().join("b"), "second", case("iptables"));
    let (_, page) = rendered(&[first.clone(), second.clone()], home.path());
    assert!(page.contains("only cases interleaved in one run support a verdict"));
    second.manifest.host.kernel_release = "6.1.0".to_owned();
    let (_, page) = rendered(&[first, second], home.path());
    tags::read(&page).unwrap();
    assert!(page.contains("different hosts (kernel release differ)"));
    // The floor of one run is no baseline for another.
    assert!(page.contains("run second") && page.contains("×1 is iptables"));
}

#[test]
fn a_functional_run_says_nothing_about_times_in_its_headline() {
    let home = home();
    let mut one = run(&home.path().join("run"), "r1", mixed(&[1, 1000], &["newconn"], 200));
    one.summary.fidelity = Fidelity::Functional;
    let (_, page) = rendered(&[one], home.path());
    assert!(page.contains("its times mean nothing"));
    assert!(!page.contains("first packet took") && !page.contains("each further Service added"));
}
