// SPDX-License-Identifier: Apache-2.0
//! Where the time goes: means of stages, stacked in path order, one bar per mode and leg.

use plotters::backend::DrawingBackend;
use plotters::style::WHITE;

use crate::analysis::number::{Unit, time};
use crate::render::axis::{Axis, linear_ticks};
use crate::render::palette::{AXIS, GRID, INK, MUTED, ink_on, stage};
use crate::render::pen::{Align, DrawError, Mark, Pen, TEXT};

/// Most entries of the legend: the stages of both legs, joined or not.
const LEGEND_MAX: usize = 40;
const WIDTH: i32 = 2112;
const BAR: i32 = 44;
const TOP: i32 = 190;
/// One mode: two bars and the space below them.
const ROW: i32 = 2 * BAR + 8 + 34;
const LEGEND_LINE: i32 = 44;

/// One stage of a bar.
pub(crate) struct StagePart {
    pub(crate) name: String,
    pub(crate) mean_ns: f64,
}

/// Both bars of a mode.
pub(crate) struct Row {
    pub(crate) label: String,
    /// Proxy mode.
    pub(crate) mode: String,
    pub(crate) request: Vec<StagePart>,
    pub(crate) response: Vec<StagePart>,
}

/// The stages of a group's cases.
pub(crate) struct StagesChart {
    pub(crate) title: &'static str,
    pub(crate) subtitle: String,
    /// At least one; means finite and not negative.
    pub(crate) rows: Vec<Row>,
    /// Names for the legend in path order, each once.
    pub(crate) legend: Vec<String>,
}

impl StagesChart {
    /// Canvas, pixels: as high as its rows and legend need. Lettering is not measured here, so a
    /// legend entry is taken to be as wide as its characters are at most.
    pub(crate) fn size(&self) -> (u32, u32) {
        let height =
            TOP + self.rows.len() as i32 * ROW + 110 + self.legend_lines() * LEGEND_LINE + 20;
        (WIDTH as u32, height as u32)
    }

    pub(crate) fn draw<DB: DrawingBackend>(&self, pen: &Pen<DB>) -> Result<(), DrawError> {
        let total = |parts: &[StagePart]| parts.iter().map(|p| p.mean_ns).sum::<f64>();
        let longest = self
            .rows
            .iter()
            .flat_map(|r| [total(&r.request), total(&r.response)])
            .fold(1.0, f64::max);
        let unit = Unit::of(longest);
        let ticks = linear_ticks(longest / unit.ns(), 8);
        let end = ticks[ticks.len() - 1] * unit.ns();
        let mut widest = 0;
        for row in &self.rows {
            widest = widest.max(pen.width(&row.label, TEXT, true)?);
        }
        let left = 36 + widest + 30 + pen.width("response", TEXT - 4, false)? + 16;
        let axis = Axis::new((0.0, end), (left, WIDTH - 190));
        let bottom = TOP + self.rows.len() as i32 * ROW;
        pen.styled(self.title, (36, 42), Align::Left, TEXT + 4, INK, true)?;
        let subtitle = pen.fit(&self.subtitle, TEXT - 3, WIDTH - 72)?;
        pen.styled(&subtitle, (36, 84), Align::Left, TEXT - 3, MUTED, false)?;
        let title = format!("sum of stage means, {}", unit.symbol());
        pen.styled(&title, (left, 134), Align::Left, TEXT - 3, MUTED, false)?;
        for tick in ticks {
            let x = axis.px(tick * unit.ns());
            pen.line(vec![(x, TOP - 20), (x, bottom)], GRID, 2)?;
            let text = format!("{}", (tick * 1000.0).round() / 1000.0);
            pen.styled(&text, (x, bottom + 30), Align::Centre, TEXT - 2, MUTED, false)?;
        }
        for (place, row) in self.rows.iter().enumerate() {
            let top = TOP + place as i32 * ROW;
            pen.styled(&row.label, (36, top + BAR), Align::Left, TEXT, INK, true)?;
            bar(pen, &axis, (left, top), "request", row, &row.request)?;
            bar(pen, &axis, (left, top + BAR + 8), "response", row, &row.response)?;
        }
        pen.line(vec![(left, TOP - 20), (left, bottom)], AXIS, 2)?;
        self.legend(pen, bottom + 96)
    }

    fn places(&self) -> impl Iterator<Item = (&str, i32, i32)> {
        let (mut x, mut line) = (36, 0);
        self.legend.iter().take(LEGEND_MAX).map(move |name| {
            // DejaVu's lower case is about 0.56 em wide; swatch and gaps come on top.
            let width = 34 + name.chars().count() as i32 * (TEXT - 3) * 56 / 100 + 40;
            if x > 36 && x + width > WIDTH - 36 {
                (x, line) = (36, line + 1);
            }
            let place = (name.as_str(), x, line);
            x += width;
            place
        })
    }

    fn legend_lines(&self) -> i32 {
        self.places().last().map_or(0, |(_, _, line)| line + 1)
    }

    fn legend<DB: DrawingBackend>(&self, pen: &Pen<DB>, top: i32) -> Result<(), DrawError> {
        for (name, x, line) in self.places() {
            let y = top + line * LEGEND_LINE;
            pen.rect((x, y - 11), (x + 22, y + 11), stage(name))?;
            pen.styled(name, (x + 34, y), Align::Left, TEXT - 3, INK, false)?;
        }
        Ok(())
    }
}

fn bar<DB: DrawingBackend>(
    pen: &Pen<DB>,
    axis: &Axis,
    (left, top): (i32, i32),
    leg: &str,
    row: &Row,
    parts: &[StagePart],
) -> Result<(), DrawError> {
    let middle = top + BAR / 2;
    pen.styled(leg, (left - 16, middle), Align::Right, TEXT - 4, MUTED, false)?;
    let (mut sum, mut from) = (0.0, left);
    for part in parts {
        sum += part.mean_ns;
        let to = axis.px(sum);
        let fill = stage(&part.name);
        if to > from {
            pen.rect((from, top), (to, top + BAR), fill)?;
            // A white hair between neighbours tells them apart without colour.
            pen.rect((to - 2, top), (to, top + BAR), WHITE)?;
            let (label, name, mean) = (&row.label, &part.name, time(part.mean_ns));
            pen.mark(Mark {
                at: (from, top),
                size: (to - from, BAR),
                mode: row.mode.clone(),
                text: format!("{label}, {leg}: {name}, mean {mean}"),
            });
        }
        let fitting = [format!("{} {}", part.name, time(part.mean_ns)), time(part.mean_ns)];
        for text in fitting {
            if pen.width(&text, TEXT - 6, false)? + 12 <= to - from {
                let at = ((from + to) / 2, middle);
                pen.styled(&text, at, Align::Centre, TEXT - 6, ink_on(fill), false)?;
                break;
            }
        }
        from = to;
    }
    let text = if parts.is_empty() { "not seen".to_owned() } else { time(sum) };
    pen.styled(&text, (from + 14, middle), Align::Left, TEXT - 2, INK, !parts.is_empty())
}
