// SPDX-License-Identifier: Apache-2.0
//! The grid and lettering around a chart of two axes.

use plotters::backend::DrawingBackend;

use crate::render::axis::Axis;
use crate::render::palette::{AXIS, GRID, INK, MUTED};
use crate::render::pen::{Align, DrawError, Pen, TEXT};

/// A line across the plot and its lettering.
pub(crate) struct Tick {
    pub(crate) at: f64,
    pub(crate) text: String,
}

/// The plot's edges on the canvas and its axes.
pub(crate) struct Frame {
    pub(crate) left: i32,
    pub(crate) top: i32,
    pub(crate) right: i32,
    pub(crate) bottom: i32,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
}

/// What stands around a plot.
pub(crate) struct Lettering {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    pub(crate) y_title: String,
    pub(crate) x_title: String,
    pub(crate) x_ticks: Vec<Tick>,
    pub(crate) y_ticks: Vec<Tick>,
    /// Room right of the plot, for the names of lines.
    pub(crate) margin_right: i32,
    /// Whether x has grid lines; bars do without.
    pub(crate) x_grid: bool,
}

impl Frame {
    /// Draws the lettering and the grid for the given spans and leaves room for the figures.
    pub(crate) fn draw<DB: DrawingBackend>(
        pen: &Pen<DB>,
        (width, height): (u32, u32),
        text: &Lettering,
        x_span: (f64, f64),
        y_span: (f64, f64),
    ) -> Result<Self, DrawError> {
        let (width, height) = (width as i32, height as i32);
        let mut widest = 0;
        for tick in &text.y_ticks {
            widest = widest.max(pen.width(&tick.text, TEXT - 2, false)?);
        }
        let (left, right) = (36 + widest + 16, width - 36 - text.margin_right);
        let (top, bottom) = (176, height - 116);
        let frame = Self {
            left,
            top,
            right,
            bottom,
            x: Axis::new(x_span, (left, right)),
            y: Axis::new(y_span, (bottom, top)),
        };
        pen.styled(&text.title, (36, 42), Align::Left, TEXT + 4, INK, true)?;
        let subtitle = pen.fit(&text.subtitle, TEXT - 3, width - 72)?;
        pen.styled(&subtitle, (36, 84), Align::Left, TEXT - 3, MUTED, false)?;
        pen.styled(&text.y_title, (36, 134), Align::Left, TEXT - 3, MUTED, false)?;
        pen.styled(&text.x_title, (right, height - 34), Align::Right, TEXT - 3, MUTED, false)?;
        frame.grid(pen, text)?;
        Ok(frame)
    }

    fn grid<DB: DrawingBackend>(&self, pen: &Pen<DB>, text: &Lettering) -> Result<(), DrawError> {
        for tick in &text.y_ticks {
            let y = self.y.px(tick.at);
            pen.line(vec![(self.left, y), (self.right, y)], GRID, 2)?;
            pen.styled(&tick.text, (self.left - 14, y), Align::Right, TEXT - 2, MUTED, false)?;
        }
        for tick in &text.x_ticks {
            let x = self.x.px(tick.at);
            if text.x_grid {
                pen.line(vec![(x, self.top), (x, self.bottom)], GRID, 2)?;
            }
            pen.styled(&tick.text, (x, self.bottom + 34), Align::Centre, TEXT - 2, MUTED, false)?;
        }
        pen.line(vec![(self.left, self.bottom), (self.right, self.bottom)], AXIS, 2)
    }
}
