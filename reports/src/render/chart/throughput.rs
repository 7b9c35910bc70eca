// SPDX-License-Identifier: Apache-2.0
//! Requests per second as bars, each iteration as a dot on them.

use plotters::backend::DrawingBackend;
use plotters::style::RGBColor;

use crate::analysis::number::digits;
use crate::render::axis::linear_ticks;
use crate::render::chart::frame::{Frame, Lettering, Tick};
use crate::render::palette::INK;
use crate::render::pen::{Align, DrawError, Mark, Pen, TEXT};

/// Most iterations drawn as dots on one bar.
const DOTS_MAX: usize = 100;

/// One mode's rate.
pub(crate) struct Bar {
    pub(crate) label: String,
    /// Proxy mode.
    pub(crate) mode: String,
    pub(crate) colour: RGBColor,
    /// Of the whole case.
    pub(crate) rps: f64,
    /// Of each iteration.
    pub(crate) iterations_rps: Vec<f64>,
}

/// The rates of a group's cases.
pub(crate) struct ThroughputChart {
    pub(crate) subtitle: String,
    /// At least one; all rates finite.
    pub(crate) bars: Vec<Bar>,
}

impl ThroughputChart {
    pub(crate) fn draw<DB: DrawingBackend>(
        &self,
        pen: &Pen<DB>,
        size: (u32, u32),
    ) -> Result<(), DrawError> {
        let all = self.bars.iter().flat_map(|bar| bar.iterations_rps.iter().chain([&bar.rps]));
        let max = all.copied().fold(0.0, f64::max);
        let ticks = linear_ticks(max, 6);
        let end = ticks[ticks.len() - 1];
        let y_ticks = ticks.iter().map(|at| Tick { at: *at, text: tick(*at, end) });
        let lettering = Lettering {
            title: "Throughput".to_owned(),
            subtitle: self.subtitle.clone(),
            y_title: "requests per second (bar: all iterations, dot: one)".to_owned(),
            x_title: String::new(),
            x_ticks: Vec::new(),
            y_ticks: y_ticks.collect(),
            margin_right: 0,
            x_grid: false,
        };
        let frame = Frame::draw(pen, size, &lettering, (0.0, self.bars.len() as f64), (0.0, end))?;
        for (place, bar) in self.bars.iter().enumerate() {
            self.bar(pen, &frame, place, bar)?;
        }
        Ok(())
    }

    fn bar<DB: DrawingBackend>(
        &self,
        pen: &Pen<DB>,
        frame: &Frame,
        place: usize,
        bar: &Bar,
    ) -> Result<(), DrawError> {
        let (from, to) = (frame.x.px(place as f64), frame.x.px(place as f64 + 1.0));
        let (middle, half) = ((from + to) / 2, ((to - from) * 3 / 10).min(90));
        pen.rect((middle - half, frame.y.px(bar.rps)), (middle + half, frame.bottom), bar.colour)?;
        let shown = &bar.iterations_rps[..bar.iterations_rps.len().min(DOTS_MAX)];
        for (i, rps) in shown.iter().enumerate() {
            // In the order they ran, from left to right: a drift shows as a slope.
            let share = (i as f64 + 0.5) / shown.len() as f64 * 2.0 - 1.0;
            let x = middle + (share * f64::from(half) * 0.8) as i32;
            pen.dot((x, frame.y.px(*rps)), 6, INK)?;
        }
        let spread = match (
            shown.iter().copied().reduce(f64::min),
            shown.iter().copied().reduce(f64::max),
        ) {
            (Some(low), Some(high)) => {
                format!(", iterations {} to {}", digits(low), digits(high))
            }
            _ => String::new(),
        };
        pen.mark(Mark {
            at: (middle - half, frame.y.px(bar.rps)),
            size: (2 * half, frame.bottom - frame.y.px(bar.rps)),
            mode: bar.mode.clone(),
            text: format!("{}: {} requests a second{spread}", bar.label, digits(bar.rps)),
        });
        let highest = shown.iter().copied().fold(bar.rps, f64::max);
        let above = frame.y.px(highest) - 30;
        pen.styled(&digits(bar.rps), (middle, above), Align::Centre, TEXT - 2, INK, true)?;
        // Names that would run into each other take turns on two lines.
        let wide = pen.width(&bar.label, TEXT - 2, false)? > to - from - 8;
        let drop = if wide && place % 2 == 1 { 62 } else { 32 };
        pen.text(&bar.label, (middle, frame.bottom + drop), Align::Centre)
    }
}

fn tick(value: f64, end: f64) -> String {
    if end >= 10_000.0 && value > 0.0 {
        format!("{}k", value / 1000.0)
    } else {
        digits(value).trim_end_matches(".00").to_owned()
    }
}
