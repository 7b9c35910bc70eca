// SPDX-License-Identifier: Apache-2.0
//! First packet against the number of Services, one line per mode.

use plotters::backend::DrawingBackend;
use plotters::style::RGBColor;

use crate::analysis::number::{Unit, count};
use crate::analysis::slope::Line;
use crate::render::axis::linear_ticks;
use crate::render::chart::frame::{Frame, Lettering, Tick};
use crate::render::chart::{EndLabel, spread};
use crate::render::palette;
use crate::render::pen::{Align, DrawError, Pen, TEXT};

/// The lines of one metric of a family.
pub(crate) struct ServicesChart {
    /// What was timed.
    pub(crate) title: String,
    pub(crate) subtitle: String,
    pub(crate) y_title: &'static str,
    /// At least one.
    pub(crate) lines: Vec<Line>,
}

impl ServicesChart {
    pub(crate) fn draw<DB: DrawingBackend>(
        &self,
        pen: &Pen<DB>,
        size: (u32, u32),
    ) -> Result<(), DrawError> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let most_ns = points().map(|(_, ns)| *ns as f64).fold(1.0, f64::max);
        let most_services = points().map(|(n, _)| f64::from(*n)).fold(1.0, f64::max);
        let unit = Unit::of(most_ns);
        let y_ticks = linear_ticks(most_ns / unit.ns(), 6);
        let y_end = y_ticks[y_ticks.len() - 1] * unit.ns();
        let x_ticks = linear_ticks(most_services, 8);
        let x_end = x_ticks[x_ticks.len() - 1];
        let mut margin_right = 0;
        for line in &self.lines {
            margin_right = margin_right.max(pen.width(&line.mode, TEXT, true)? + 24);
        }
        let lettering = Lettering {
            title: self.title.clone(),
            subtitle: self.subtitle.clone(),
            y_title: format!("{}, {}", self.y_title, unit.symbol()),
            x_title: "Services programmed".to_owned(),
            x_ticks: x_ticks.iter().map(|n| Tick { at: *n, text: count(*n as u64) }).collect(),
            y_ticks: y_ticks
                .iter()
                .map(|v| Tick {
                    at: v * unit.ns(),
                    text: format!("{}", (v * 1000.0).round() / 1000.0),
                })
                .collect(),
            margin_right,
            x_grid: false,
        };
        let frame = Frame::draw(pen, size, &lettering, (0.0, x_end), (0.0, y_end))?;
        let mut labels = Vec::new();
        for line in &self.lines {
            labels.push(draw_line(pen, &frame, line, palette::mode(&line.mode))?);
        }
        spread(&mut labels, TEXT + 4, frame.top, frame.bottom - 10);
        for label in labels {
            pen.styled(
                &label.text,
                (frame.right + 14, label.y),
                Align::Left,
                TEXT,
                label.colour,
                true,
            )?;
        }
        Ok(())
    }
}

fn draw_line<DB: DrawingBackend>(
    pen: &Pen<DB>,
    frame: &Frame,
    line: &Line,
    colour: RGBColor,
) -> Result<EndLabel, DrawError> {
    let at = |&(n, ns): &(u32, u64)| (frame.x.px(f64::from(n)), frame.y.px(ns as f64));
    let path: Vec<_> = line.points.iter().map(at).collect();
    let y = path.last().map_or(frame.bottom, |last| last.1);
    pen.line(path.clone(), colour, 4)?;
    for point in path {
        pen.dot(point, 8, colour)?;
    }
    Ok(EndLabel { text: line.mode.clone(), colour, y })
}
