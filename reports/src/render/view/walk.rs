// SPDX-License-Identifier: Apache-2.0
//! A walk on the page: its path, the table that says the same, and what took longest.

use record::{CaseRecord, Leg, MatchedRule, QueryWalk, Walk};

use crate::analysis::number::{count, percent, plural, time};
use crate::analysis::walk::{
    End, Longest, Section, Seen, clock, longest, place, queries_ns, query_steps, question,
    rule_place, sections, steps,
};
use crate::render::palette;
use crate::render::path::PathView;

/// Steps named as the longest.
const LONGEST: usize = 3;

/// A walk.
pub(crate) struct WalkView {
    pub(crate) title: String,
    pub(crate) total: String,
    /// What it was and how it was seen, in a line.
    pub(crate) meta: String,
    pub(crate) longest: Vec<LongestView>,
    /// What the drawing shows, for readers who do not see it.
    pub(crate) alt: String,
    pub(crate) path: PathView,
    /// How many queries for names there were, and how long all took; empty where there were none.
    pub(crate) names: String,
    pub(crate) queries: Vec<QueryView>,
    pub(crate) sections: Vec<SectionView>,
    pub(crate) conntrack: Vec<String>,
    pub(crate) notes: Vec<String>,
}

/// A step that took long.
pub(crate) struct LongestView {
    pub(crate) time: String,
    pub(crate) text: String,
}

/// A query for a name.
pub(crate) struct QueryView {
    pub(crate) question: String,
    pub(crate) time: String,
    pub(crate) steps: Vec<StepView>,
}

/// A part of the walk.
pub(crate) struct SectionView {
    pub(crate) heading: &'static str,
    pub(crate) time: String,
    pub(crate) steps: Vec<StepView>,
}

/// One step.
pub(crate) struct StepView {
    pub(crate) number: usize,
    pub(crate) at: String,
    pub(crate) since: String,
    pub(crate) back: bool,
    pub(crate) host: String,
    pub(crate) place: String,
    pub(crate) packet: String,
    pub(crate) stage: String,
    pub(crate) colour: String,
    pub(crate) words: String,
    pub(crate) ends: Vec<EndView>,
    pub(crate) objects: Vec<String>,
    pub(crate) rules: Vec<RuleView>,
}

impl StepView {
    /// What the folded part holds: `2 rules, 1 kernel object`; empty where there is none.
    pub(crate) fn inside(&self) -> String {
        let rules = (!self.rules.is_empty()).then(|| plural(self.rules.len(), "rule", "rules"));
        let objects = (!self.objects.is_empty())
            .then(|| plural(self.objects.len(), "kernel object", "kernel objects"));
        [rules, objects].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// An address.
pub(crate) struct EndView {
    /// `from` or `to`.
    pub(crate) word: &'static str,
    /// Empty where it did not change.
    pub(crate) before: String,
    pub(crate) now: String,
}

/// A rule that matched.
pub(crate) struct RuleView {
    pub(crate) place: String,
    pub(crate) text: String,
}

impl WalkView {
    /// `case` is where the medians to compare with come from.
    pub(crate) fn new(walk: &Walk, case: Option<&CaseRecord>) -> Self {
        let total = time(walk.total_ns as f64);
        let Walk { client, destination, backend, engine, .. } = walk;
        let mut meta = format!("{}, recorded by engine {engine}.", steps(walk));
        if let Some(rules) = walk.rules_walked {
            let rules = match rules {
                1 => "1 rule".to_owned(),
                n => format!("{} rules", count(n)),
            };
            meta.push_str(&format!(" First packet tested against {rules} on the entry node."));
        }
        let parts = sections(walk);
        Self {
            title: format!("{total}: {client} → {destination} → {backend}"),
            total: total.clone(),
            meta,
            longest: longest(walk, case, LONGEST).iter().map(LongestView::new).collect(),
            alt: format!("Path of one request through its hosts, {}, {total}", steps(walk)),
            path: PathView::new(walk, &parts),
            names: match walk.queries.len() {
                0 => String::new(),
                n => {
                    let count = plural(n, "query", "queries");
                    format!("Names: {count}, {}", time(queries_ns(walk) as f64))
                }
            },
            queries: walk.queries.iter().map(QueryView::new).collect(),
            sections: parts.iter().map(SectionView::new).collect(),
            conntrack: walk.conntrack.clone(),
            notes: walk.notes.clone(),
        }
    }
}

impl LongestView {
    fn new(one: &Longest<'_>) -> Self {
        let step = one.seen.step;
        let stage =
            if step.stage.is_empty() { String::new() } else { format!(" ({})", step.stage) };
        let usual = one.median_ns.map_or_else(String::new, |ns| {
            format!("; the case’s median there is {}", time(ns as f64))
        });
        Self {
            time: time(step.since_ns as f64),
            text: format!(
                "{} of it, up to step {}, {} {}{stage}{usual}",
                percent(one.share),
                one.seen.number,
                step.host,
                place(step)
            ),
        }
    }
}

impl QueryView {
    fn new(query: &QueryWalk) -> Self {
        Self {
            question: question(query),
            time: time(query.total_ns as f64),
            steps: query_steps(query).iter().map(StepView::new).collect(),
        }
    }
}

impl SectionView {
    fn new(section: &Section<'_>) -> Self {
        Self {
            heading: section.heading,
            time: time(section.ns() as f64),
            steps: section.steps.iter().map(StepView::new).collect(),
        }
    }
}

impl StepView {
    fn new(seen: &Seen<'_>) -> Self {
        let step = seen.step;
        let end = |(word, end): (&'static str, Option<End<'_>>)| {
            let end = end?;
            let before = end.before.unwrap_or_default().to_owned();
            Some(EndView { word, before, now: end.now.to_owned() })
        };
        let ends = [("from", seen.source), ("to", seen.destination)];
        let rule =
            |rule: &MatchedRule| RuleView { place: rule_place(rule), text: rule.text.clone() };
        Self {
            number: seen.number,
            at: clock(step.at_ns),
            since: time(step.since_ns as f64),
            back: step.leg == Leg::Response,
            host: step.host.clone(),
            place: place(step),
            packet: step.packet.clone(),
            stage: step.stage.clone(),
            colour: palette::css(palette::stage(&step.stage)),
            words: step.words.clone(),
            ends: ends.into_iter().filter_map(end).collect(),
            objects: step.objects.clone(),
            rules: step.rules.iter().map(rule).collect(),
        }
    }
}
