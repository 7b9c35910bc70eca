// SPDX-License-Identifier: Apache-2.0
//! The power curve of a machine's gate: the share of runs in which a slowdown of each size is caught.

use std::path::Path;

use plotters::style::RGBColor;

use crate::ReportError;
use crate::analysis::number::shorten;
use crate::judge::power::{PowerCurve, PowerLine};
use crate::render::chart::{Along, Chart, PlotChart, Quantity, Spot, Trail};
use crate::render::pen::Dash;
use crate::render::{figure, palette, pen};

/// Draws the curve into a PNG file.
///
/// # Errors
/// The disk refuses, or there is no line.
pub fn power(curve: &PowerCurve, file: &Path) -> Result<(), ReportError> {
    pen::load_fonts()?;
    let chart = PlotChart {
        title: format!("What the gate catches, in {} drawn runs", curve.runs),
        subtitle: shorten(&curve.case, 120),
        x_title: "injected slowdown of the median",
        y_title: "caught, with 95 % intervals; at 0 % false alarms".to_owned(),
        along: Along::Percent,
        quantity: Quantity::Share,
        trails: curve.lines.iter().zip(COLOURS.into_iter().cycle()).map(trail).collect(),
    };
    figure::png(&Chart::Plot(chart), file)
        .map_err(|source| ReportError::Draw { file: file.to_owned(), problem: source.to_string() })
}

/// Of Okabe and Ito's palette, which modes' colours are from, too.
const COLOURS: [RGBColor; 3] =
    [palette::MUTED, RGBColor(0x00, 0x72, 0xb2), RGBColor(0xd5, 0x5e, 0x00)];

fn trail((line, colour): (&PowerLine, RGBColor)) -> Trail {
    let spot = |point: &crate::judge::power::PowerPoint| Spot {
        x: point.injected_percent,
        y: point.share[0] * 100.0,
        range: Some((point.share[1] * 100.0, point.share[2] * 100.0)),
        changed: false,
    };
    Trail {
        label: format!("{} s", line.budget_s),
        mode: String::new(),
        colour,
        dash: Dash::Solid,
        spots: line.points.iter().map(spot).collect(),
        fit: Vec::new(),
    }
}
