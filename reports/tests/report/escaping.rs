// SPDX-License-Identifier: Apache-2.0
//! Names of any characters stay text, on the page, in the charts and in the terminal.

use std::fs;
use std::sync::LazyLock;

use proptest::prelude::*;
use record::{CaseRecord, Histogram, Run};
use reports::render;
use reports::table::{Look, Table};

use crate::support::{Spec, run};
use crate::tags;

const ELEMENTS: &str = "a body br caption circle code dd details div dl dt em figcaption figure footer h1 h2 \
    h3 h4 head header html i input li line main meta nav ol p pre polygon polyline rect script section small span \
    strong style summary svg table tbody td text th thead title tr ul";
const ATTRIBUTES: &str = "aria-label charset class colspan content cx data-mode data-sort data-sortable cy dy fill font-family font-size \
    font-weight height href http-equiv id lang name open opacity points r role scope stroke stroke-width \
    style text-anchor transform type viewBox width x x1 x2 xmlns y y1 y2";

/// A run in which every text is `text`.
fn infected(text: &str) -> (Run, tempfile::TempDir) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut cases: Vec<(CaseRecord, Option<Histogram>)> = Vec::new();
    for services in [1, 100] {
        let (case, latency) =
            Spec::new("none", "nodeport-remote", services, "newconn").measured(50);
        cases.push((case, Some(latency)));
    }
    let bare = Spec::new("ipvs", "nodeport-remote", 1, "newconn");
    cases.extend([(bare.skipped(), None), (bare.failed(), None)]);
    for (case, _) in &mut cases {
        let texts = [&mut case.id, &mut case.lab, &mut case.kernel, &mut case.mode, &mut case.cni];
        texts.into_iter().for_each(|t| *t = text.to_owned());
        case.id = format!("{text}/svc-{}/{text}", case.services);
        (case.route, case.workload) = (text.to_owned(), text.to_owned());
        case.notes = vec![text.to_owned()];
        case.errors_by_kind.insert(text.to_owned(), 3);
        case.stages.iter_mut().for_each(|stage| stage.name = text.to_owned());
        if let Some(proof) = &mut case.proof {
            (proof.mode, proof.evidence) = (text.to_owned(), vec![text.to_owned()]);
        }
        if let Some(reason) = &mut case.reason {
            (reason.need, reason.found, reason.r#try) =
                (text.to_owned(), text.to_owned(), text.to_owned());
        }
        if let Some(failure) = &mut case.failure {
            (failure.message, failure.stderr) = (text.to_owned(), Some(text.to_owned()));
        }
        if let Some(probe) = &mut case.probe {
            (probe.engine, probe.reason) = (text.to_owned(), Some(text.to_owned()));
        }
    }
    let mut run = run(&home.path().join("run"), "r", cases);
    let manifest = &mut run.manifest;
    (manifest.run_id, manifest.profile) = (text.to_owned(), text.to_owned());
    (manifest.command, manifest.revision) = (vec![text.to_owned()], Some(text.to_owned()));
    manifest.interrupted = Some(text.to_owned());
    (manifest.host.cpu_model, manifest.host.privilege) = (text.to_owned(), text.to_owned());
    manifest.host.sysctls.insert(text.to_owned(), text.to_owned());
    manifest.tools[0].version = text.to_owned();
    (run, home)
}

fn stays_text(text: &str) -> Result<(), TestCaseError> {
    let (run, home) = infected(text);
    let runs = [run];
    let rendered = render(&runs, &home.path().join("out")).expect("a report");
    let page = fs::read_to_string(&rendered.html).expect("the page");
    let used = tags::read(&page).map_err(TestCaseError::fail)?;
    for element in &used.elements {
        prop_assert!(ELEMENTS.split_whitespace().any(|e| e == element), "<{element}>");
    }
    for attribute in &used.attributes {
        prop_assert!(ATTRIBUTES.split_whitespace().any(|a| a == attribute), "{attribute}=");
    }
    // All scripts but the last are figures, and the last is the page's own, whatever is in the record.
    let (own, data) = used.scripts.split_last().expect("the page has a script");
    prop_assert_eq!(own, plain_script());
    for figures in data {
        prop_assert!(serde_json::from_str::<serde_json::Value>(figures).is_ok(), "{figures}");
    }
    for link in used.links {
        prop_assert!(link.starts_with('#') || !link.contains(['/', ':', '"', '<']), "{link}");
    }
    let markdown = fs::read_to_string(&rendered.markdown).expect("the markdown");
    prop_assert!(!markdown.contains('<'), "{markdown}");
    prop_assert_eq!(shape(&markdown), plain_shape(), "{}", markdown);
    let terminal = Table::of(&runs).text(Look { colour: false, width: Some(80) });
    prop_assert!(!terminal.chars().any(|c| c.is_control() && c != '\n'));
    Ok(())
}

/// For each line of a markdown text the bars that divide cells: those no backslash makes plain.
fn shape(markdown: &str) -> Vec<usize> {
    let bars = |line: &str| {
        let mut escaped = false;
        let is_bar = |c: &char| {
            let bar = *c == '|' && !escaped;
            escaped = *c == '\\' && !escaped;
            bar
        };
        line.chars().filter(is_bar).count()
    };
    markdown.lines().map(bars).collect()
}

/// The shape that the same record has with a harmless text.
fn plain_shape() -> &'static [usize] {
    static SHAPE: LazyLock<Vec<usize>> = LazyLock::new(|| {
        let (run, home) = infected("word");
        let rendered = render(&[run], &home.path().join("out")).expect("a report");
        shape(&fs::read_to_string(rendered.markdown).expect("the markdown"))
    });
    &SHAPE
}

/// The script of a page of harmless texts.
fn plain_script() -> &'static String {
    static SCRIPT: LazyLock<String> = LazyLock::new(|| {
        let (run, home) = infected("word");
        let rendered = render(&[run], &home.path().join("out")).expect("a report");
        let page = fs::read_to_string(rendered.html).expect("the page");
        tags::read(&page).expect("a whole page").scripts.pop().expect("a script")
    });
    &SCRIPT
}

#[test]
fn a_failed_tools_words_are_shown_as_it_wrote_them() {
    let words = "</pre><b>\"it's\" & |\n\tErreur: numéro 3";
    let (run, home) = infected(words);
    let rendered = render(&[run], &home.path().join("out")).unwrap();
    let page = fs::read_to_string(rendered.html).unwrap();
    let failed = page.split_once("<section id=\"failed\">").unwrap().1;
    let (shown, _) = failed.split_once("<pre>").unwrap().1.split_once("</pre>").unwrap();
    let entities =
        [("&#60;", "<"), ("&#62;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&#38;", "&")];
    let read = entities.iter().fold(shown.to_owned(), |text, (from, to)| text.replace(from, to));
    assert_eq!(read, words);
}

#[test]
fn texts_made_to_break_out_do_not() {
    for text in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onload='alert(1)",
        "</style></title></svg><b>",
        "]]><!--",
        "&lt;b&gt; &amp; {{ self }} {% raw %}",
        "\u{0}\u{1b}[2J\u{202e}\r\n| a | b |",
        "",
        "日本語 𝕏 é́ — µs ≤ 1 ×",
        &"x".repeat(5000),
    ] {
        stays_text(text).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn no_text_becomes_markup(text in r#"[\PC<>&"'=/ \x00-\x1f]{0,40}"#) {
        stays_text(&text)?;
    }
}
