// SPDX-License-Identifier: Apache-2.0
//! Geometry of a drawn walk: hosts are lanes, steps are rows from top to bottom.
//!
//! Rows are equally far apart, because a walk holds steps of 200 ns beside waits of a millisecond:
//! on a straight time axis either would vanish. The time between two rows is written between them,
//! beside a bar whose length is proportional to it; the longest bar is the longest step.

use record::Walk;

use crate::analysis::number::{shorten, time};
use crate::analysis::walk::{Section, hosts, place};
use crate::render::palette;

/// Room above the first row for the hosts' names.
const HEAD: i32 = 34;
const ROW: i32 = 38;
/// Room that a part's heading takes.
const HEADING: i32 = 30;
/// From the left edge to the first lane, and from lane to lane.
const LANE: i32 = 42;
/// Letters of a host's name that fit a lane.
const HOST_LETTERS: usize = 7;
/// Room right of the lanes: the places' names.
const TEXT: i32 = 236;
const TEXT_LETTERS: usize = 36;
const BAR: i32 = 100;

/// A drawn walk, in units that are CSS pixels where it is shown as wide as it is.
pub(crate) struct PathView {
    pub(crate) width: i32,
    pub(crate) height: i32,
    /// Where the lanes' lines begin.
    pub(crate) top: i32,
    pub(crate) text_x: i32,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) headings: Vec<Heading>,
    pub(crate) lines: Vec<Line>,
    pub(crate) rows: Vec<Row>,
}

/// A host.
pub(crate) struct Lane {
    pub(crate) x: i32,
    pub(crate) name: String,
}

/// The name of a part of the walk.
pub(crate) struct Heading {
    pub(crate) y: i32,
    pub(crate) text: String,
}

/// From one step to the next.
pub(crate) struct Line {
    pub(crate) x1: i32,
    pub(crate) y1: i32,
    pub(crate) x2: i32,
    pub(crate) y2: i32,
    /// Whether the packet is on its way back.
    pub(crate) back: bool,
}

/// A step.
pub(crate) struct Row {
    pub(crate) x: i32,
    pub(crate) y: i32,
    pub(crate) back: bool,
    /// Whether an address changed here.
    pub(crate) translated: bool,
    pub(crate) label: String,
    /// Time since the row above, empty at the first.
    pub(crate) since: String,
    pub(crate) bar: i32,
    pub(crate) colour: String,
}

impl Row {
    /// Corners of the square on its tip that marks a change of addresses.
    pub(crate) fn diamond(&self) -> String {
        let Self { x, y, .. } = self;
        format!("{x},{} {},{y} {x},{} {},{y}", y - 7, x + 7, y + 7, x - 7)
    }
}

impl PathView {
    pub(crate) fn new(walk: &Walk, sections: &[Section<'_>]) -> Self {
        let hosts = hosts(walk);
        let lane_x = |host: &str| {
            let lane = hosts.iter().position(|known| *known == host).unwrap_or(0);
            LANE / 2 + 4 + lane as i32 * LANE
        };
        let longest_ns = walk.steps.iter().map(|step| step.since_ns).max().unwrap_or(0).max(1);
        let mut path = Self {
            width: 8 + hosts.len() as i32 * LANE + TEXT,
            height: 0,
            top: HEAD - 10,
            text_x: 8 + hosts.len() as i32 * LANE + 4,
            lanes: hosts.iter().map(|host| Lane::new(lane_x(host), host)).collect(),
            headings: Vec::new(),
            lines: Vec::new(),
            rows: Vec::new(),
        };
        let mut y = HEAD - ROW / 2;
        for section in sections {
            let text = format!("{}, {}", section.heading, time(section.ns() as f64));
            path.headings.push(Heading { y: y + HEADING, text });
            y += HEADING;
            for seen in &section.steps {
                y += ROW;
                let step = seen.step;
                let share = step.since_ns as f64 / longest_ns as f64;
                let stage =
                    if step.stage.is_empty() { String::new() } else { format!(" {}", step.stage) };
                let since = format!("{}{stage}", time(step.since_ns as f64));
                path.rows.push(Row {
                    x: lane_x(&step.host),
                    y,
                    back: step.leg == record::Leg::Response,
                    translated: seen.translated(),
                    label: shorten(&format!("{}. {}", seen.number, place(step)), TEXT_LETTERS),
                    since: if seen.number == 1 { String::new() } else { shorten(&since, 28) },
                    bar: ((share * f64::from(BAR)).round() as i32).max(1),
                    colour: palette::css(palette::stage(&step.stage)),
                });
            }
        }
        path.lines = path.rows.windows(2).map(|pair| Line::between(&pair[0], &pair[1])).collect();
        path.height = y + 16;
        path
    }
}

impl Lane {
    fn new(x: i32, host: &str) -> Self {
        Self { x, name: shorten(host, HOST_LETTERS) }
    }
}

impl Line {
    fn between(from: &Row, to: &Row) -> Self {
        Self { x1: from.x, y1: from.y, x2: to.x, y2: to.y, back: to.back }
    }
}
