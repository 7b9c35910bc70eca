// SPDX-License-Identifier: Apache-2.0
//! One lab against another: cases of one run that are equal but for where their nodes lived. Whether
//! the labs say the same of the modes is what the quick one may be trusted for.

use std::cmp::Ordering;

use record::{CaseRecord, IterationRecord, Quantiles, Run};

use crate::analysis::baseline::ratio;
use crate::analysis::fidelity::times_count;
use crate::analysis::group::{Group, Key};
use crate::analysis::number::{one_line, plural, prose_list, ratio as ratio_text, shorten};

/// The lab that others are compared with.
const FIRST: &str = "netns";
/// Most that is quoted of a case's proof, characters.
const QUOTE_MAX: usize = 200;

/// A time by which modes are ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The first packet's time in the node.
    FirstPacket,
    /// The request's latency.
    Latency,
}

impl Measure {
    /// Both, in the order they are told.
    pub const ALL: [Self; 2] = [Self::FirstPacket, Self::Latency];

    /// What a reader calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstPacket => "first packet p50",
            Self::Latency => "p50",
        }
    }

    /// A case's.
    pub fn of(self, case: &CaseRecord) -> Option<Quantiles> {
        match self {
            Self::FirstPacket => case.first_packet_ns,
            Self::Latency => case.latency_ns,
        }
    }

    fn of_iteration(self, iteration: &IterationRecord) -> Option<Quantiles> {
        match self {
            Self::FirstPacket => iteration.first_packet_ns,
            Self::Latency => iteration.latency_ns,
        }
    }

    /// Smallest and largest median of a case's iterations; none for fewer than two.
    fn range(self, case: &CaseRecord) -> Option<(u64, u64)> {
        let medians = || case.iterations.iter().filter_map(|one| Some(self.of_iteration(one)?.p50));
        (medians().count() >= 2).then(|| Some((medians().min()?, medians().max()?)))?
    }

    /// Which of two cases of a lab is faster, if every iteration of one was faster than every
    /// iteration of the other.
    fn order(self, a: &CaseRecord, b: &CaseRecord) -> Option<Ordering> {
        let ((a_min, a_max), (b_min, b_max)) = (self.range(a)?, self.range(b)?);
        match (a_max < b_min, b_max < a_min) {
            (true, _) => Some(Ordering::Less),
            (_, true) => Some(Ordering::Greater),
            _ => None,
        }
    }
}

/// A case in either lab.
#[derive(Clone, Debug)]
pub struct Pair<'a> {
    /// Proxy mode.
    pub mode: &'a str,
    /// In the first lab and in the second.
    pub cases: [&'a CaseRecord; 2],
    /// Whether the times of either count.
    pub timed: [bool; 2],
}

impl Pair<'_> {
    /// A median in the second lab as a multiple of the first's; none where times do not count.
    pub fn time_ratio(&self, measure: Measure) -> Option<f64> {
        let [a, b] = self.cases;
        ratio(measure.of(b)?.p50, measure.of(a)?.p50).filter(|_| self.timed == [true; 2])
    }

    /// Rules that the first packet walked in either.
    pub fn rules_walked(&self) -> [Option<u64>; 2] {
        self.cases.map(|case| case.counts?.rules_walked)
    }

    /// The second lab's as a multiple of the first's.
    pub fn rules_ratio(&self) -> Option<f64> {
        let [a, b] = self.rules_walked();
        ratio(b?, a?)
    }
}

/// How the labs rank modes by one time. Of each two modes, either lab may tell them apart or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranking<'a> {
    /// By what.
    pub measure: Measure,
    /// Modes from the fastest on, in the first lab and in the second; at least two.
    pub orders: [Vec<&'a str>; 2],
    /// Pairs of modes that both labs tell apart, in the same order.
    pub alike: usize,
    /// Pairs that both tell apart, in opposite orders; the first lab's faster one is named first.
    pub opposite: Vec<(&'a str, &'a str)>,
    /// Pairs that at least one lab does not tell apart.
    pub open: usize,
}

impl<'a> Ranking<'a> {
    fn of(measure: Measure, pairs: &[Pair<'a>]) -> Option<Self> {
        let ranked: Vec<&Pair<'a>> =
            pairs.iter().filter(|pair| pair.time_ratio(measure).is_some()).collect();
        if ranked.len() < 2 {
            return None;
        }
        let order = |lab: usize| {
            let mut modes = ranked.clone();
            modes.sort_by_key(|pair| measure.of(pair.cases[lab]).map(|times| times.p50));
            modes.into_iter().map(|pair| pair.mode).collect()
        };
        let mut ranking =
            Self { measure, orders: [order(0), order(1)], alike: 0, opposite: Vec::new(), open: 0 };
        for (place, one) in ranked.iter().enumerate() {
            for other in &ranked[place + 1..] {
                let told = [0, 1].map(|lab| measure.order(one.cases[lab], other.cases[lab]));
                match told {
                    [Some(a), Some(b)] if a == b => ranking.alike += 1,
                    [Some(Ordering::Less), Some(_)] => {
                        ranking.opposite.push((one.mode, other.mode))
                    }
                    [Some(_), Some(_)] => ranking.opposite.push((other.mode, one.mode)),
                    _ => ranking.open += 1,
                }
            }
        }
        Some(ranking)
    }

    /// Whether the labs contradict each other nowhere, and agree somewhere.
    pub fn is_alike(&self) -> bool {
        self.opposite.is_empty() && self.alike > 0
    }

    /// The same in a phrase that follows `by first packet p50: `.
    pub fn verdict(&self, labs: [&str; 2]) -> String {
        let [first, second] = labs.map(one_line);
        let orders = [0, 1].map(|lab| {
            self.orders[lab].iter().map(|mode| one_line(mode)).collect::<Vec<_>>().join(", ")
        });
        let open = match self.open {
            0 => String::new(),
            open => format!(
                "; {} of modes not told apart in at least one of the labs",
                plural(open, "pair", "pairs")
            ),
        };
        if !self.opposite.is_empty() {
            let turned: Vec<String> = self
                .opposite
                .iter()
                .map(|(a, b)| {
                    format!(
                        "{} before {} in {first} and behind it in {second}",
                        one_line(a),
                        one_line(b)
                    )
                })
                .collect();
            return format!("not alike: {}{open}", prose_list(&turned));
        }
        match self.alike {
            0 => format!(
                "no two modes are told apart in both labs (medians in order: {first} {}; {second} {})",
                orders[0], orders[1]
            ),
            _ if self.open == 0 => format!("alike: {}", orders[0]),
            alike => format!(
                "alike in the {} that both tell apart{open}",
                plural(alike, "pair of modes", "pairs of modes")
            ),
        }
    }
}

/// Cases that differ by mode and lab only.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    /// One line that names what all have in common.
    pub title: String,
    /// At least one, in the order of modes.
    pub pairs: Vec<Pair<'a>>,
    /// By each time that two modes or more have in both labs.
    pub rankings: Vec<Ranking<'a>>,
}

impl Block<'_> {
    /// What either lab's proof says of a mode's rules: where the figures of the two differ, this is
    /// what differs.
    pub fn origins(&self, labs: [&str; 2]) -> Vec<String> {
        let said = |case: &CaseRecord| match &case.proof {
            Some(proof) => shorten(&proof.evidence.join("; "), QUOTE_MAX),
            None => "the record has no proof".to_owned(),
        };
        let line = |pair: &Pair<'_>| {
            let [a, b] = pair.cases.map(said);
            let [first, second] = labs.map(one_line);
            format!("{}: in {first} {a}; in {second} {b}", one_line(pair.mode))
        };
        self.pairs.iter().map(line).collect()
    }

    /// How the labs rank modes and how far apart they are, in one line.
    pub fn sentence(&self, labs: [&str; 2]) -> String {
        let rankings = self.rankings.iter().map(|ranking| {
            format!("by {}, modes rank {}", ranking.measure.name(), ranking.verdict(labs))
        });
        let apart = |name: &str, of: &dyn Fn(&Pair<'_>) -> Option<f64>| {
            let ratios: Vec<f64> = self.pairs.iter().filter_map(of).collect();
            let least = ratios.iter().copied().reduce(f64::min)?;
            let most = ratios.iter().copied().reduce(f64::max)?;
            let [least, most] = [least, most].map(ratio_text);
            Some(if least == most {
                format!("{name} {least}")
            } else {
                format!("{name} {least} to {most}")
            })
        };
        let apart = [
            apart("first packet p50", &|pair| pair.time_ratio(Measure::FirstPacket)),
            apart("p50", &|pair| pair.time_ratio(Measure::Latency)),
            apart("rules walked", &|pair| pair.rules_ratio()),
        ];
        rankings.chain(apart.into_iter().flatten()).collect::<Vec<_>>().join("; ")
    }
}

/// Two labs of one run, and all that was measured in both.
#[derive(Clone, Debug)]
pub struct Labs<'a> {
    /// The run.
    pub run: &'a Run,
    /// What ratios are to, and what is compared.
    pub labs: [&'a str; 2],
    /// At least one.
    pub blocks: Vec<Block<'a>>,
}

impl Labs<'_> {
    /// What keeps the two from being the same, whatever is measured.
    pub fn caution(&self) -> String {
        let [a, b] = self.labs;
        format!(
            "The two do not have the same rules: in {}; in {}. So counts differ where the rules do, \
             and times also where other work shares the processors: a ratio is what one lab’s \
             surroundings cost against the other’s. What should be the same is the order of modes. Two \
             modes are told apart in a lab where every iteration of one was faster than every \
             iteration of the other.",
            surroundings(a),
            surroundings(b)
        )
    }
}

/// A lab, and whose its rules are.
fn surroundings(lab: &str) -> String {
    const KUBE_PROXY: &str = "they are those of the cluster’s kube-proxy, in the shape its version \
                              gives them, beside the cluster’s own Services, and its nodes run the \
                              cluster’s own pods";
    match lab {
        "netns" => "netns they are nic2pod’s own, in the shape of a recent kube-proxy’s, and its \
                    nodes run nothing else"
            .to_owned(),
        "kind" => format!("kind {KUBE_PROXY}"),
        "kubeconfig" => format!("kubeconfig {KUBE_PROXY}, on machines that may be others"),
        other => format!("{} they are of unknown making", one_line(other)),
    }
}

/// The labs of each run against its first one, which is netns where it has that.
pub fn labs<'a>(groups: &[Group<'a>], runs: &'a [Run]) -> Vec<Labs<'a>> {
    let mut found = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        let mut labels = of_run(run);
        labels.sort_by_key(|label| *label != FIRST);
        let Some((&first, others)) = labels.split_first() else { continue };
        for &other in others {
            let of_first = groups.iter().filter(|g| g.key.run == index && g.key.lab == first);
            let blocks: Vec<Block<'a>> = of_first
                .filter_map(|a| {
                    let key = Key { lab: other, ..a.key.clone() };
                    block(a, groups.iter().find(|group| group.key == key)?)
                })
                .collect();
            if !blocks.is_empty() {
                found.push(Labs { run, labs: [first, other], blocks });
            }
        }
    }
    found
}

/// Labs of a run's cases, in the order they first appear.
pub fn of_run(run: &Run) -> Vec<&str> {
    let mut labels: Vec<&str> = Vec::new();
    for case in &run.summary.cases {
        if !labels.contains(&case.lab.as_str()) {
            labels.push(&case.lab);
        }
    }
    labels
}

fn block<'a>(a: &Group<'a>, b: &Group<'a>) -> Option<Block<'a>> {
    let pair = |case: &'a CaseRecord| {
        let other = b.measured().find(|other| other.mode == case.mode)?;
        let timed = [times_count(a.run, case), times_count(b.run, other)];
        Some(Pair { mode: &case.mode, cases: [case, other], timed })
    };
    let pairs: Vec<Pair<'a>> = a.measured().filter_map(pair).collect();
    if pairs.is_empty() {
        return None;
    }
    let rankings =
        Measure::ALL.iter().filter_map(|&measure| Ranking::of(measure, &pairs)).collect();
    Some(Block { title: a.plain_title.clone(), pairs, rankings })
}
