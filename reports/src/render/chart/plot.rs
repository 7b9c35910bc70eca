// SPDX-License-Identifier: Apache-2.0
//! Points of several series over a number: measured values with their spread, and fitted lines with
//! their bands.

use plotters::backend::DrawingBackend;
use plotters::style::RGBColor;

use crate::analysis::number::{Unit, count, digits, time};
use crate::render::axis::{linear_ticks, log_ticks};
use crate::render::chart::frame::{Frame, Lettering, Tick};
use crate::render::chart::{EndLabel, spread};
use crate::render::pen::{Dash, DrawError, Mark, Pen, TEXT};

/// What the upright axis counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantity {
    /// Nanoseconds.
    Time,
    /// Requests a second.
    Rate,
    /// Things.
    Count,
    /// Percent of all.
    Share,
}

impl Quantity {
    /// A value with its unit.
    pub(crate) fn text(self, value: f64) -> String {
        match self {
            Self::Time => time(value),
            Self::Rate => format!("{} req/s", digits(value)),
            Self::Count => digits(value),
            Self::Share => format!("{} %", digits(value)),
        }
    }

    /// As the page's script reads it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Time => "ns",
            Self::Rate => "rps",
            Self::Count => "n",
            Self::Share => "%",
        }
    }
}

/// The level axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Along {
    /// Services: logarithmic where they span two decades, since 1 and 10 would fall together else.
    Services,
    /// Percent, from 0.
    Percent,
    /// Places from 0, each with its name.
    Names(Vec<String>),
}

/// A measured value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spot {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// Least and most of its replicates.
    pub(crate) range: Option<(f64, f64)>,
    /// Whether the series changed its level here.
    pub(crate) changed: bool,
}

/// A fitted value with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fitted {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) band: Option<(f64, f64)>,
}

/// A series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trail {
    pub(crate) label: String,
    /// Proxy mode, by which a reader selects.
    pub(crate) mode: String,
    pub(crate) colour: RGBColor,
    pub(crate) dash: Dash,
    /// At least one.
    pub(crate) spots: Vec<Spot>,
    /// Empty where nothing was fitted: the spots are joined then.
    pub(crate) fit: Vec<Fitted>,
}

/// Series over one axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlotChart {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    pub(crate) x_title: &'static str,
    pub(crate) y_title: String,
    pub(crate) along: Along,
    pub(crate) quantity: Quantity,
    /// At least one.
    pub(crate) trails: Vec<Trail>,
}

impl PlotChart {
    /// Whether the level axis is logarithmic.
    pub(crate) fn log_x(&self) -> bool {
        let (min, max) = self.x_span();
        self.along == Along::Services && min > 0.0 && max / min >= 100.0
    }

    fn x_span(&self) -> (f64, f64) {
        let all = || self.trails.iter().flat_map(|trail| &trail.spots).map(|spot| spot.x);
        (all().fold(f64::MAX, f64::min), all().fold(f64::MIN, f64::max))
    }

    pub(crate) fn draw<DB: DrawingBackend>(
        &self,
        pen: &Pen<DB>,
        size: (u32, u32),
    ) -> Result<(), DrawError> {
        let spots = || self.trails.iter().flat_map(|trail| &trail.spots);
        let tops = spots().map(|spot| spot.range.map_or(spot.y, |(_, high)| high.max(spot.y)));
        let fits = self.trails.iter().flat_map(|trail| &trail.fit).map(|fitted| fitted.y);
        let most = tops.chain(fits).fold(0.0, f64::max);
        let (scale, symbol) = match self.quantity {
            Quantity::Time => (Unit::of(most).ns(), format!(", {}", Unit::of(most).symbol())),
            Quantity::Share => (1.0, ", %".to_owned()),
            Quantity::Rate | Quantity::Count => (1.0, String::new()),
        };
        let y_ticks = linear_ticks(most / scale, 6);
        let y_end = y_ticks[y_ticks.len() - 1] * scale;
        let mut margin_right = 0;
        for trail in &self.trails {
            margin_right = margin_right.max(pen.width(&trail.label, TEXT, true)? + 54);
        }
        let (x_ticks, x_span) = self.x_axis();
        let lettering = Lettering {
            title: self.title.clone(),
            subtitle: self.subtitle.clone(),
            y_title: format!("{}{symbol}", self.y_title),
            x_title: if self.log_x() {
                format!("{} (log scale)", self.x_title)
            } else {
                self.x_title.to_owned()
            },
            x_ticks,
            y_ticks: y_ticks.iter().map(|v| Tick { at: v * scale, text: tick(*v) }).collect(),
            margin_right,
            x_grid: !matches!(self.along, Along::Names(_)),
        };
        let frame = Frame::draw(pen, size, &lettering, x_span, (0.0, y_end))?;
        let mut labels = Vec::new();
        for trail in &self.trails {
            labels.push(self.trail(pen, &frame, trail)?);
        }
        spread(&mut labels, TEXT + 4, frame.top, frame.bottom - 10);
        for label in &labels {
            label.draw(pen, frame.right + 14)?;
        }
        Ok(())
    }

    /// Ticks, and the span they are in.
    fn x_axis(&self) -> (Vec<Tick>, (f64, f64)) {
        let (min, max) = self.x_span();
        match &self.along {
            Along::Services if self.log_x() => {
                let decades = log_ticks(min, max).into_iter().filter(|at| (min..=max).contains(at));
                let text = |at: f64| Tick { at: at.log10(), text: count(at as u64) };
                (decades.map(text).collect(), (min.log10(), max.log10()))
            }
            Along::Services | Along::Percent => {
                let ticks = linear_ticks(max, 8);
                let end = ticks[ticks.len() - 1];
                let percent = self.along == Along::Percent;
                let text =
                    |at: f64| if percent { format!("{} %", tick(at)) } else { count(at as u64) };
                let ticks = ticks.iter().map(|at| Tick { at: *at, text: text(*at) });
                (ticks.collect(), (0.0, end))
            }
            Along::Names(names) => {
                // About six names fit, the last among them, and of each its day and time.
                let step = names.len().saturating_sub(1).div_ceil(5).max(1);
                let last = names.len().saturating_sub(1);
                let shown = (0..names.len()).rev().filter(|i| (last - i).is_multiple_of(step));
                let text = |name: &str| name.chars().take(11).collect();
                let ticks = shown.map(|i| Tick { at: i as f64, text: text(&names[i]) });
                (ticks.collect(), (-0.3, last as f64 + 0.3))
            }
        }
    }

    fn trail<DB: DrawingBackend>(
        &self,
        pen: &Pen<DB>,
        frame: &Frame,
        trail: &Trail,
    ) -> Result<EndLabel, DrawError> {
        let x = |value: f64| frame.x.px(if self.log_x() { value.log10() } else { value });
        let y = |value: f64| frame.y.px(value);
        let band = |of: fn((f64, f64)) -> f64| {
            let edge = trail.fit.iter().filter_map(move |f| Some((x(f.x), y(of(f.band?)))));
            edge.collect::<Vec<_>>()
        };
        let mut outline = band(|(low, _)| low);
        outline.extend(band(|(_, high)| high).into_iter().rev());
        if outline.len() > 3 {
            pen.area(outline, trail.colour, 0.14)?;
        }
        let mut path: Vec<_> = trail.fit.iter().map(|f| (x(f.x), y(f.y))).collect();
        if path.is_empty() {
            path = trail.spots.iter().map(|spot| (x(spot.x), y(spot.y))).collect();
        }
        let end = path.last().map_or(frame.bottom, |last| last.1);
        pen.dashed(&path, trail.colour, 4, trail.dash)?;
        for spot in &trail.spots {
            let at = (x(spot.x), y(spot.y));
            if let Some((low, high)) = spot.range {
                pen.line(vec![(at.0, y(low)), (at.0, y(high))], trail.colour, 3)?;
            }
            if spot.changed {
                pen.line(vec![(at.0, frame.top), (at.0, frame.bottom)], trail.colour, 2)?;
                pen.dot(at, 13, trail.colour)?;
            }
            pen.dot(at, 8, trail.colour)?;
            let text = format!("{}, {}: {}", trail.label, self.place(spot.x), self.said(spot));
            pen.mark(Mark {
                at: (at.0 - 16, at.1 - 16),
                size: (32, 32),
                mode: trail.mode.clone(),
                text,
            });
        }
        Ok(EndLabel { text: trail.label.clone(), colour: trail.colour, y: end })
    }

    fn place(&self, x: f64) -> String {
        match &self.along {
            Along::Services if x == 1.0 => "1 Service".to_owned(),
            Along::Services => format!("{} Services", count(x as u64)),
            Along::Percent => format!("{} %", tick(x)),
            Along::Names(names) => names.get(x as usize).cloned().unwrap_or_default(),
        }
    }

    fn said(&self, spot: &Spot) -> String {
        let text = self.quantity.text(spot.y);
        match spot.range {
            Some((low, high)) => {
                let (low, high) = (self.quantity.text(low), self.quantity.text(high));
                format!("{text} (iterations {low} to {high})")
            }
            None => text,
        }
    }
}

/// A tick's number without digits that say nothing.
fn tick(value: f64) -> String {
    if value >= 10_000.0 { digits(value) } else { format!("{}", (value * 1000.0).round() / 1000.0) }
}
