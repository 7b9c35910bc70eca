// SPDX-License-Identifier: Apache-2.0
//! The labs' own kernels, and one against another.

use record::{GuestKernel, Quantiles, Run};

use crate::analysis::fidelity::{or_emulated, word};
use crate::analysis::number::{NONE, bytes, count, millis, ratio, time_or_none};
use crate::analysis::pair::{COUNTS, Match, Pair};
use crate::render::palette;

/// Digits shown of a digest; the manifest has them all.
const DIGITS: usize = 12;

/// Columns of the table of kernels.
pub(crate) const KERNEL_HEAD: [&str; 11] = [
    "kernel",
    "kind",
    "release",
    "file",
    "SHA-256",
    "config",
    "processor",
    "fidelity",
    "processors",
    "memory",
    "boot",
];

/// A row for each kernel of its own that a run had.
pub(crate) fn kernel_rows(run: &Run) -> Vec<[String; 11]> {
    let short = |digest: &str| digest.chars().take(DIGITS).collect::<String>();
    let row = |kernel: &GuestKernel| {
        let accelerator = match &kernel.accelerator_reason {
            Some(reason) => format!("{}: {reason}", kernel.accelerator),
            None => kernel.accelerator.clone(),
        };
        [
            kernel.label.clone(),
            kernel.kind.clone(),
            kernel.release.clone(),
            kernel.path.clone(),
            short(&kernel.sha256),
            kernel.config_sha256.as_deref().map_or_else(|| NONE.to_owned(), short),
            accelerator,
            word(kernel.fidelity).to_owned(),
            count(u64::from(kernel.cpus)),
            bytes(kernel.memory_bytes),
            millis(kernel.boot_ms),
        ]
    };
    run.manifest.kernels.iter().map(row).collect()
}

/// The same with a column for each kernel and a row for each thing that is known: its name, then what
/// it is. Empty where there are no kernels.
pub(crate) fn kernel_columns(run: &Run) -> Vec<Vec<String>> {
    let kernels = kernel_rows(run);
    if kernels.is_empty() {
        return Vec::new();
    }
    let row = |(place, name): (usize, &&str)| {
        let cells = kernels.iter().map(|kernel| kernel[place].clone());
        std::iter::once((*name).to_owned()).chain(cells).collect()
    };
    KERNEL_HEAD.iter().enumerate().map(row).collect()
}

/// Two kernels of a run.
pub(crate) struct MatchView {
    pub(crate) title: String,
    pub(crate) caution: String,
    /// What is in the columns behind the mode's.
    pub(crate) head: Vec<String>,
    pub(crate) blocks: Vec<PairsView>,
}

/// Cases that differ by mode and kernel only.
pub(crate) struct PairsView {
    pub(crate) title: String,
    pub(crate) rows: Vec<PairView>,
}

/// A case on either.
pub(crate) struct PairView {
    pub(crate) mode: String,
    pub(crate) colour: String,
    pub(crate) cells: Vec<String>,
}

impl MatchView {
    pub(crate) fn new(one: &Match<'_>, several_runs: bool) -> Self {
        let [a, b] = one.kernels;
        let run =
            if several_runs { format!(", run {}", one.run.manifest.run_id) } else { String::new() };
        let times = [format!("p50, {a}"), format!("p50, {b}"), "ratio".to_owned()];
        let first = [a, b].map(|label| format!("first packet p50, {label}"));
        let first = first.into_iter().chain(["ratio".to_owned()]);
        let head = times.into_iter().chain(first).chain(COUNTS.map(str::to_owned)).collect();
        let mut blocks: Vec<PairsView> = Vec::new();
        for pair in &one.pairs {
            let row = PairView::new(pair);
            match blocks.last_mut().filter(|block| block.title == pair.title) {
                Some(block) => block.rows.push(row),
                None => blocks.push(PairsView { title: pair.title.clone(), rows: vec![row] }),
            }
        }
        Self { title: format!("{b} against {a}{run}"), caution: one.caution(), head, blocks }
    }
}

impl PairView {
    fn new(pair: &Pair<'_>) -> Self {
        let ratio = |times: Option<f64>| {
            or_emulated(pair.timed == [true; 2], times.map_or_else(|| NONE.to_owned(), ratio))
        };
        let median = |place: usize, quantiles: Option<Quantiles>| {
            or_emulated(pair.timed[place], time_or_none(quantiles.map(|q| q.p50)))
        };
        let [a, b] = pair.cases;
        let times = [
            median(0, a.latency_ns),
            median(1, b.latency_ns),
            ratio(pair.latency_ratio),
            median(0, a.first_packet_ns),
            median(1, b.first_packet_ns),
            ratio(pair.first_packet_ratio),
        ];
        let counts = pair.counts().map(|[a, b]| {
            let [x, y] = [a, b].map(|n| n.map_or_else(|| NONE.to_owned(), count));
            if a == b { x } else { format!("{x} → {y}") }
        });
        Self {
            mode: pair.mode.to_owned(),
            colour: palette::css(palette::mode(pair.mode)),
            cells: times.into_iter().chain(counts).collect(),
        }
    }
}
