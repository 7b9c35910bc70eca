// SPDX-License-Identifier: Apache-2.0
//! One lab against another.

use crate::analysis::fidelity::or_emulated;
use crate::analysis::lab::{Block, Labs, Measure, Pair};
use crate::analysis::number::{NONE, count, ratio, time_or_none};
use crate::render::palette;
use crate::render::view::kernel::PairView;

/// Two labs of a run.
pub(crate) struct LabsView {
    pub(crate) title: String,
    pub(crate) caution: String,
    /// What is in the columns behind the mode's.
    pub(crate) head: Vec<String>,
    pub(crate) blocks: Vec<BlockView>,
}

/// Cases that differ by mode and lab only.
pub(crate) struct BlockView {
    pub(crate) title: String,
    /// How modes rank: by what, and the verdict.
    pub(crate) rankings: Vec<RankingView>,
    pub(crate) rows: Vec<PairView>,
    /// What either lab's rules are, mode by mode.
    pub(crate) origins: Vec<String>,
}

/// How modes rank by one time.
pub(crate) struct RankingView {
    pub(crate) by: &'static str,
    pub(crate) verdict: String,
    pub(crate) alike: bool,
}

impl LabsView {
    pub(crate) fn new(one: &Labs<'_>, several_runs: bool) -> Self {
        let [a, b] = one.labs;
        let run =
            if several_runs { format!(", run {}", one.run.manifest.run_id) } else { String::new() };
        let three =
            |name: &str| [format!("{name}, {a}"), format!("{name}, {b}"), "ratio".to_owned()];
        let times = Measure::ALL.iter().flat_map(|measure| three(measure.name()));
        Self {
            title: format!("{b} against {a}{run}"),
            caution: one.caution(),
            head: times.chain(three("rules walked")).collect(),
            blocks: one.blocks.iter().map(|block| BlockView::new(block, one.labs)).collect(),
        }
    }
}

impl BlockView {
    fn new(block: &Block<'_>, labs: [&str; 2]) -> Self {
        let rankings = block.rankings.iter().map(|ranking| RankingView {
            by: ranking.measure.name(),
            verdict: ranking.verdict(labs),
            alike: ranking.is_alike(),
        });
        Self {
            title: block.title.clone(),
            rankings: rankings.collect(),
            rows: block.pairs.iter().map(row).collect(),
            origins: block.origins(labs),
        }
    }
}

fn row(pair: &Pair<'_>) -> PairView {
    let or_none = |value: Option<f64>| value.map_or_else(|| NONE.to_owned(), ratio);
    let times = Measure::ALL.iter().flat_map(|measure| {
        let median = |lab: usize| {
            let median = measure.of(pair.cases[lab]).map(|times| times.p50);
            or_emulated(pair.timed[lab], time_or_none(median))
        };
        let both = or_emulated(pair.timed == [true; 2], or_none(pair.time_ratio(*measure)));
        [median(0), median(1), both]
    });
    let [a, b] = pair.rules_walked().map(|rules| rules.map_or_else(|| NONE.to_owned(), count));
    PairView {
        mode: pair.mode.to_owned(),
        colour: palette::css(palette::mode(pair.mode)),
        cells: times.chain([a, b, or_none(pair.rules_ratio())]).collect(),
    }
}
