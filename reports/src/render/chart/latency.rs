// SPDX-License-Identifier: Apache-2.0
//! Latency over percentiles, the tail stretched: each nine has the width of the one before.

use std::f64::consts::LOG10_2;

use plotters::backend::DrawingBackend;
use plotters::style::RGBColor;

use crate::analysis::curve::Point;
use crate::analysis::number::{Unit, digits, time};
use crate::render::axis::log_ticks;
use crate::render::chart::frame::{Frame, Lettering, Tick};
use crate::render::chart::{EndLabel, spread};
use crate::render::pen::{DrawError, Mark, Pen, TEXT};

/// One mode's curve.
pub(crate) struct Curve {
    pub(crate) label: String,
    /// Proxy mode.
    pub(crate) mode: String,
    pub(crate) colour: RGBColor,
    pub(crate) points: Vec<Point>,
    /// The percentiles that the record keeps of each iteration.
    pub(crate) spreads: Vec<Spread>,
}

/// A percentile and how far iterations lie apart there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) name: &'static str,
    pub(crate) nines: f64,
    /// Of the whole case, nanoseconds.
    pub(crate) ns: u64,
    /// Least and most of the iterations; none where there are fewer than two.
    pub(crate) range_ns: Option<(u64, u64)>,
}

/// The distributions of a group's cases.
pub(crate) struct LatencyChart {
    pub(crate) subtitle: String,
    /// At least one, none of them empty.
    pub(crate) curves: Vec<Curve>,
}

pub(crate) const NINES: [(f64, &str); 8] = [
    (0.0, "min"),
    (LOG10_2, "50 %"),
    (1.0, "90 %"),
    (2.0, "99 %"),
    (3.0, "99.9 %"),
    (4.0, "99.99 %"),
    (5.0, "99.999 %"),
    (6.0, "99.9999 %"),
];

impl LatencyChart {
    pub(crate) fn draw<DB: DrawingBackend>(
        &self,
        pen: &Pen<DB>,
        size: (u32, u32),
    ) -> Result<(), DrawError> {
        let values = || {
            let points = self.curves.iter().flat_map(|c| &c.points).map(|p| p.value_ns);
            let spreads = self.curves.iter().flat_map(|c| &c.spreads).filter_map(|s| s.range_ns);
            points.chain(spreads.flat_map(|(low, high)| [low, high])).map(|ns| ns as f64)
        };
        let (min, max) = (values().fold(f64::MAX, f64::min), values().fold(1.0, f64::max));
        let end =
            self.curves.iter().flat_map(|c| c.points.last()).map(|p| p.nines).fold(1.0, f64::max);
        let unit = Unit::of(max);
        let ticks = log_ticks(min.max(1.0).min(max), max);
        let span = (ticks[0].log10(), ticks[ticks.len() - 1].log10());
        let y_ticks =
            ticks.iter().map(|ns| Tick { at: ns.log10(), text: digits_short(ns / unit.ns()) });
        let x_ticks = NINES.iter().filter(|(nines, _)| *nines <= end + 1e-9);
        let mut margin_right = 0;
        for curve in &self.curves {
            margin_right = margin_right.max(pen.width(&curve.label, TEXT, true)? + 54);
        }
        let lettering = Lettering {
            title: "Latency by percentile".to_owned(),
            subtitle: self.subtitle.clone(),
            y_title: format!("latency from the intended send time, {} (log scale)", unit.symbol()),
            x_title: "percentile of requests".to_owned(),
            x_ticks: x_ticks.map(|(at, text)| Tick { at: *at, text: (*text).to_owned() }).collect(),
            y_ticks: y_ticks.collect(),
            margin_right,
            x_grid: true,
        };
        let frame = Frame::draw(pen, size, &lettering, (0.0, end), span)?;
        let mut labels = Vec::new();
        for curve in &self.curves {
            let at =
                |p: &Point| (frame.x.px(p.nines), frame.y.px((p.value_ns.max(1) as f64).log10()));
            let mut path: Vec<_> = curve.points.iter().map(at).collect();
            path.dedup();
            let y = path.last().map_or(frame.bottom, |last| last.1);
            labels.push(EndLabel { text: curve.label.clone(), colour: curve.colour, y });
            pen.line(path, curve.colour, 4)?;
            for one in &curve.spreads {
                self.spread(pen, &frame, curve, one)?;
            }
        }
        spread(&mut labels, TEXT + 4, frame.top, frame.bottom - 10);
        for label in &labels {
            label.draw(pen, frame.right + 14)?;
        }
        Ok(())
    }

    /// An upright stroke from the least to the most of the iterations. Curves stand a little apart, so
    /// that strokes of modes that are alike do not hide each other.
    fn spread<DB: DrawingBackend>(
        &self,
        pen: &Pen<DB>,
        frame: &Frame,
        curve: &Curve,
        one: &Spread,
    ) -> Result<(), DrawError> {
        let among = self.curves.iter().position(|other| std::ptr::eq(other, curve)).unwrap_or(0);
        let aside = among as i32 * 7 - (self.curves.len() as i32 - 1) * 7 / 2;
        let (x, y) = (frame.x.px(one.nines), |ns: u64| frame.y.px((ns.max(1) as f64).log10()));
        let mut text = format!("{}, {}: {}", curve.label, one.name, time(one.ns as f64));
        if let Some((low, high)) = one.range_ns {
            let x = x + aside;
            pen.line(vec![(x, y(low)), (x, y(high))], curve.colour, 3)?;
            for end in [y(low), y(high)] {
                pen.line(vec![(x - 6, end), (x + 6, end)], curve.colour, 3)?;
            }
            text = format!("{text} (iterations {} to {})", time(low as f64), time(high as f64));
        }
        let at = (x + aside - 10, y(one.ns) - 14);
        pen.mark(Mark { at, size: (20, 28), mode: curve.mode.clone(), text });
        Ok(())
    }
}

/// A tick's number without digits that say nothing: `2`, `0.5`, `1,000`.
fn digits_short(value: f64) -> String {
    let text = digits(value);
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}
