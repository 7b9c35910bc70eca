// SPDX-License-Identifier: Apache-2.0
//! Draws on a plotters area, whatever its backend. Coordinates are canvas pixels from the top left.

use std::sync::OnceLock;

use plotters::backend::DrawingBackend;
use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::element::{Circle, PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, IntoFont, RGBColor, ShapeStyle, TextStyle, WHITE, register_font};

use crate::ReportError;
use crate::analysis::number::shorten;
use crate::render::palette::INK;

/// The family charts are lettered in: DejaVu in a PNG, the reader's own sans-serif in an SVG.
const FAMILY: &str = "sans-serif";

/// Size of ordinary lettering, canvas pixels. Pages show two canvas pixels as one.
pub(crate) const TEXT: i32 = 30;

/// Why a chart is not there.
#[derive(Clone, Debug, thiserror::Error)]
#[error("failed to draw the chart: {message}")]
pub(crate) struct DrawError {
    message: String,
}

impl DrawError {
    pub(crate) fn new(source: impl std::fmt::Display) -> Self {
        Self { message: source.to_string() }
    }
}

/// Side of its point that text stands on.
#[derive(Clone, Copy)]
pub(crate) enum Align {
    Left,
    Centre,
    Right,
}

/// Makes the bundled fonts known to plotters, once a process.
pub(crate) fn load_fonts() -> Result<(), ReportError> {
    static LOADED: OnceLock<Result<(), &'static str>> = OnceLock::new();
    let load = |name, style, bytes| match register_font(FAMILY, style, bytes) {
        Ok(()) => Ok(()),
        // Its error says nothing beyond that the bytes are no font.
        Err(_) => Err(name),
    };
    let loaded = LOADED.get_or_init(|| {
        let regular = include_bytes!("../../assets/DejaVuSans-subset.ttf");
        let bold = include_bytes!("../../assets/DejaVuSans-Bold-subset.ttf");
        load("DejaVuSans-subset.ttf", FontStyle::Normal, regular)?;
        load("DejaVuSans-Bold-subset.ttf", FontStyle::Bold, bold)
    });
    loaded.map_err(|name| ReportError::Font { name })
}

/// A pen on a canvas of either backend.
pub(crate) struct Pen<DB: DrawingBackend> {
    area: DrawingArea<DB, Shift>,
    text_drop_px: i32,
}

impl<DB: DrawingBackend> Pen<DB> {
    /// Takes a canvas and whitens it. Text is set `text_drop_px` below where its backend puts the
    /// middle of a line: bitmaps centre on a box that leaves no room above the letters.
    pub(crate) fn new(area: DrawingArea<DB, Shift>, text_drop_px: i32) -> Result<Self, DrawError> {
        area.fill(&WHITE).map_err(DrawError::new)?;
        Ok(Self { area, text_drop_px })
    }

    /// Finishes the canvas; a bitmap goes to its file.
    pub(crate) fn finish(self) -> Result<(), DrawError> {
        self.area.present().map_err(DrawError::new)
    }

    pub(crate) fn rect(
        &self,
        (left, top): (i32, i32),
        (right, bottom): (i32, i32),
        fill: RGBColor,
    ) -> Result<(), DrawError> {
        let style = ShapeStyle { color: fill.into(), filled: true, stroke_width: 0 };
        self.area
            .draw(&Rectangle::new([(left, top), (right, bottom)], style))
            .map_err(DrawError::new)
    }

    pub(crate) fn line(
        &self,
        points: Vec<(i32, i32)>,
        colour: RGBColor,
        width: u32,
    ) -> Result<(), DrawError> {
        let style = ShapeStyle { color: colour.into(), filled: false, stroke_width: width };
        self.area.draw(&PathElement::new(points, style)).map_err(DrawError::new)
    }

    /// A filled dot with a white rim, so that dots on bars and on each other stay apart.
    pub(crate) fn dot(&self, at: (i32, i32), radius: i32, fill: RGBColor) -> Result<(), DrawError> {
        for (radius, colour) in [(radius + 2, WHITE), (radius, fill)] {
            let style = ShapeStyle { color: colour.into(), filled: true, stroke_width: 0 };
            self.area.draw(&Circle::new(at, radius, style)).map_err(DrawError::new)?;
        }
        Ok(())
    }

    /// Text in ink, its middle at the height of `at`.
    pub(crate) fn text(&self, text: &str, at: (i32, i32), align: Align) -> Result<(), DrawError> {
        self.styled(text, at, align, TEXT, INK, false)
    }

    pub(crate) fn styled(
        &self,
        text: &str,
        at: (i32, i32),
        align: Align,
        size: i32,
        colour: RGBColor,
        bold: bool,
    ) -> Result<(), DrawError> {
        let horizontal = match align {
            Align::Left => HPos::Left,
            Align::Centre => HPos::Center,
            Align::Right => HPos::Right,
        };
        let at = (at.0, at.1 + self.text_drop_px);
        let style = style(size, bold).color(&colour).pos(Pos::new(horizontal, VPos::Center));
        self.area.draw(&Text::new(text.to_owned(), at, style)).map_err(DrawError::new)
    }

    /// Width the bundled font needs; a reader's own is seldom wider than DejaVu.
    pub(crate) fn width(&self, text: &str, size: i32, bold: bool) -> Result<i32, DrawError> {
        let (width, _) =
            self.area.estimate_text_size(text, &style(size, bold)).map_err(DrawError::new)?;
        Ok(i32::try_from(width).unwrap_or(i32::MAX))
    }

    /// The text, cut short with an ellipsis where it is wider than `room`.
    pub(crate) fn fit(&self, text: &str, size: i32, room: i32) -> Result<String, DrawError> {
        let mut kept = text.chars().count();
        let mut fitting = text.to_owned();
        while kept > 1 && self.width(&fitting, size, false)? > room {
            kept -= 1;
            fitting = shorten(text, kept);
        }
        Ok(fitting)
    }
}

fn style(size: i32, bold: bool) -> TextStyle<'static> {
    let weight = if bold { FontStyle::Bold } else { FontStyle::Normal };
    (FAMILY, size, weight).into_font().into()
}
