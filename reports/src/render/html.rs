// SPDX-License-Identifier: Apache-2.0
//! The page: one file, one small script that it does without, nothing fetched.

use askama::Template;
use record::{Run, Status};

use crate::ReportError;
use crate::analysis::glossary::STAGES;
use crate::analysis::group::Group;
use crate::analysis::headline::headline;
use crate::analysis::host;
use crate::analysis::kernel::case_name;
use crate::analysis::lab::labs;
use crate::analysis::pair::matches;
use crate::analysis::probe::COUNTS;
use crate::analysis::slope::Family;
use crate::analysis::summary::{Tally, tally};
use crate::render::figure::Figure;
use crate::render::plan::{CHARTS_PER_GROUP, charted};
use crate::render::script::{POLICY, SCRIPT};
use crate::render::view::{
    CaseView, CaseWalksView, FailureView, FamilyView, GroupView, HostView, LabsView, MatchView,
    PROBE_HEAD, Published, ReasonView, RowView, SkipView, SummaryGroup, VerdictView, count_rows,
    failures, probe_reasons, probe_rows, skips, verdicts, walks,
};

/// Sections open when the page is; the rest fold, so that a long report stays short to scroll.
const OPEN_MAX: usize = 2;

#[derive(Template)]
#[template(path = "report.html")]
struct Page {
    policy: &'static str,
    script: &'static str,
    title: String,
    headline: String,
    more: Vec<String>,
    tally: Tally,
    warning: String,
    summary: Vec<SummaryGroup>,
    skips: Vec<SkipView>,
    failures: Vec<FailureView>,
    verdicts: Vec<VerdictView>,
    verdict_words: String,
    labs: Vec<LabsView>,
    matches: Vec<MatchView>,
    families: Vec<FamilyView>,
    published: Published,
    groups: Vec<GroupView>,
    walks_title: &'static str,
    walks: Vec<CaseWalksView>,
    count_head: [&'static str; 7],
    counts: Vec<RowView<7>>,
    probe_head: [&'static str; 9],
    probes: Vec<RowView<9>>,
    reasons: Vec<ReasonView>,
    cases: Vec<CaseView>,
    hosts: Vec<HostView>,
    glossary: &'static [(&'static str, &'static str)],
    version: &'static str,
}

impl Page {
    fn open(&self, place: &usize) -> bool {
        *place < OPEN_MAX
    }
}

/// Fills in the page. `figures` are those of [`crate::render::plan::figures`], drawn.
pub(crate) fn page(
    runs: &[Run],
    groups: &[Group<'_>],
    families: &[Family<'_>],
    figures: Vec<Figure>,
) -> Result<String, ReportError> {
    let mut figures = figures.into_iter();
    let families = families
        .iter()
        .map(|f| FamilyView::new(f, figures.by_ref().take(charted(f).len()).collect()))
        .collect();
    let mut summary = Vec::new();
    let mut sections = Vec::new();
    for (place, group) in groups.iter().enumerate() {
        let mut anchor = String::new();
        if group.timed().count() > 0 {
            anchor = format!("group-{}", place + 1);
            sections.push(GroupView::new(
                group,
                anchor.clone(),
                figures.by_ref().take(CHARTS_PER_GROUP).collect(),
            ));
        }
        summary.extend(SummaryGroup::new(group, anchor));
    }
    let (walks_title, walks) = walks(runs);
    let (verdicts, verdict_words) = verdicts(runs);
    let mut sentences = headline(runs).into_iter();
    let page = Page {
        policy: &POLICY,
        script: &SCRIPT,
        title: title(runs),
        headline: sentences.next().unwrap_or_default(),
        more: sentences.collect(),
        tally: tally(runs),
        warning: host::warning(runs).unwrap_or_default(),
        summary,
        skips: skips(runs),
        failures: failures(runs),
        verdicts,
        verdict_words,
        labs: labs(groups, runs).iter().map(|one| LabsView::new(one, runs.len() > 1)).collect(),
        matches: matches(groups, runs)
            .iter()
            .map(|one| MatchView::new(one, runs.len() > 1))
            .collect(),
        families,
        published: Published::new(),
        groups: sections,
        walks_title,
        walks,
        count_head: COUNTS,
        counts: count_rows(runs),
        probe_head: PROBE_HEAD,
        probes: probe_rows(runs),
        reasons: probe_reasons(runs),
        cases: cases(runs),
        hosts: runs.iter().map(HostView::new).collect(),
        glossary: STAGES,
        version: env!("CARGO_PKG_VERSION"),
    };
    page.render().map_err(|source| ReportError::Template { source })
}

fn title(runs: &[Run]) -> String {
    match runs {
        [] => "No run".to_owned(),
        [run] => format!("Run {}", run.manifest.run_id),
        runs => format!("{} runs", runs.len()),
    }
}

fn cases(runs: &[Run]) -> Vec<CaseView> {
    let ran = runs.iter().flat_map(|run| {
        let ran = run.summary.cases.iter().filter(|case| case.status != Status::Skipped);
        ran.map(move |case| CaseView::new(run, case, case_name(runs, run, case)))
    });
    ran.collect()
}
