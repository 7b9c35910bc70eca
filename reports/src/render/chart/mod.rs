// SPDX-License-Identifier: Apache-2.0
//! Charts: what they show, apart from what they are drawn on.

mod frame;
mod latency;
mod plot;
mod stages;
mod throughput;

use plotters::backend::DrawingBackend;
use plotters::style::RGBColor;

use crate::render::palette::INK;
use crate::render::pen::{Align, DrawError, Pen, TEXT};

pub(crate) use latency::{Curve, LatencyChart, NINES, Spread};
pub(crate) use plot::{Along, Fitted, PlotChart, Quantity, Spot, Trail};
pub(crate) use stages::{Row, StagePart, StagesChart};
pub(crate) use throughput::{Bar, ThroughputChart};

/// Most series a chart draws; a group has one per proxy mode.
pub(crate) const SERIES_MAX: usize = 12;

/// A chart of any kind.
pub(crate) enum Chart {
    /// Latency over percentiles.
    Latency(LatencyChart),
    /// Means of stages, stacked.
    Stages(StagesChart),
    /// Requests per second.
    Throughput(ThroughputChart),
    /// Points over Services or runs.
    Plot(PlotChart),
}

impl Chart {
    /// Canvas, pixels.
    pub(crate) fn size(&self) -> (u32, u32) {
        match self {
            Self::Latency(_) => (1280, 800),
            Self::Stages(chart) => chart.size(),
            Self::Throughput(_) => (800, 800),
            Self::Plot(_) => (1280, 800),
        }
    }

    /// Draws it on a canvas of [`Self::size`].
    pub(crate) fn draw<DB: DrawingBackend>(&self, pen: &Pen<DB>) -> Result<(), DrawError> {
        match self {
            Self::Latency(chart) => chart.draw(pen, self.size()),
            Self::Stages(chart) => chart.draw(pen),
            Self::Throughput(chart) => chart.draw(pen, self.size()),
            Self::Plot(chart) => chart.draw(pen, self.size()),
        }
    }
}

/// A name beside the end of a line.
pub(crate) struct EndLabel {
    pub(crate) text: String,
    pub(crate) colour: RGBColor,
    pub(crate) y: i32,
}

impl EndLabel {
    /// A patch of the line's colour and the name in ink: some colours are too light to be read in.
    fn draw<DB: DrawingBackend>(&self, pen: &Pen<DB>, left: i32) -> Result<(), DrawError> {
        pen.rect((left, self.y - 9), (left + 18, self.y + 9), self.colour)?;
        pen.styled(&self.text, (left + 28, self.y), Align::Left, TEXT, INK, true)
    }
}

/// Moves labels apart where they would overlap, keeping their order and staying within
/// `top..=bottom` as far as there is room.
pub(crate) fn spread(labels: &mut [EndLabel], gap: i32, top: i32, bottom: i32) {
    labels.sort_by_key(|label| label.y);
    let mut free = top;
    for label in labels.iter_mut() {
        label.y = label.y.max(free);
        free = label.y + gap;
    }
    let mut limit = bottom;
    for label in labels.iter_mut().rev() {
        label.y = label.y.min(limit);
        limit = label.y - gap;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn labels_that_have_room_do_not_overlap(ys in prop::collection::vec(0i32..700, 1..12)) {
            let label = |y| EndLabel { text: String::new(), colour: RGBColor(0, 0, 0), y };
            let mut labels: Vec<_> = ys.into_iter().map(label).collect();
            spread(&mut labels, 40, 0, 700);
            prop_assert!(labels.windows(2).all(|w| w[1].y - w[0].y >= 40));
            prop_assert!(labels.iter().all(|l| (0..=700).contains(&l.y)));
        }
    }
}
