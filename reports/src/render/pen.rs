// SPDX-License-Identifier: Apache-2.0
//! Draws on a plotters area, whatever its backend. Coordinates are canvas pixels from the top left.

use std::cell::RefCell;
use std::sync::OnceLock;

use plotters::backend::DrawingBackend;
use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::element::{Circle, PathElement, Polygon, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{
    Color, FontStyle, IntoFont, RGBColor, ShapeStyle, TextStyle, WHITE, register_font,
};

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

/// How a line is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dash {
    Solid,
    /// Long strokes.
    Dashed,
    /// Short ones.
    Dotted,
}

/// A place on the canvas that a page can say something about, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Its upper left corner.
    pub(crate) at: (i32, i32),
    pub(crate) size: (i32, i32),
    /// Proxy mode it is of, empty where it is of none.
    pub(crate) mode: String,
    pub(crate) text: String,
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
    marks: RefCell<Vec<Mark>>,
}

impl<DB: DrawingBackend> Pen<DB> {
    /// Takes a canvas and whitens it. Text is set `text_drop_px` below where its backend puts the
    /// middle of a line: bitmaps centre on a box that leaves no room above the letters.
    pub(crate) fn new(area: DrawingArea<DB, Shift>, text_drop_px: i32) -> Result<Self, DrawError> {
        area.fill(&WHITE).map_err(DrawError::new)?;
        Ok(Self { area, text_drop_px, marks: RefCell::default() })
    }

    /// Finishes the canvas; a bitmap goes to its file. Returns its marks in the order they were made.
    pub(crate) fn finish(self) -> Result<Vec<Mark>, DrawError> {
        self.area.present().map_err(DrawError::new)?;
        Ok(self.marks.into_inner())
    }

    /// Notes what is at a place. Nothing is drawn.
    pub(crate) fn mark(&self, mark: Mark) {
        self.marks.borrow_mut().push(mark);
    }

    /// A filled polygon that lets through what lies below it.
    pub(crate) fn area(
        &self,
        points: Vec<(i32, i32)>,
        colour: RGBColor,
        share: f64,
    ) -> Result<(), DrawError> {
        self.area.draw(&Polygon::new(points, colour.mix(share))).map_err(DrawError::new)
    }

    /// A line in strokes, the same on every backend.
    pub(crate) fn dashed(
        &self,
        points: &[(i32, i32)],
        colour: RGBColor,
        width: u32,
        dash: Dash,
    ) -> Result<(), DrawError> {
        let (on, off) = match dash {
            Dash::Solid => return self.line(points.to_vec(), colour, width),
            Dash::Dashed => (18.0, 10.0),
            Dash::Dotted => (5.0, 9.0),
        };
        let mut gone = 0.0;
        for pair in points.windows(2) {
            let [(x1, y1), (x2, y2)] =
                [pair[0], pair[1]].map(|(x, y)| (f64::from(x), f64::from(y)));
            let length = (x2 - x1).hypot(y2 - y1);
            let at = |along: f64| {
                let share = along / length;
                ((x1 + (x2 - x1) * share).round() as i32, (y1 + (y2 - y1) * share).round() as i32)
            };
            // Strokes go on over corners: `gone` is how far into the pattern this piece begins.
            let mut start = -(gone % (on + off));
            while start < length {
                let (from, to) = (start.max(0.0), (start + on).min(length));
                if to > from {
                    self.line(vec![at(from), at(to)], colour, width)?;
                }
                start += on + off;
            }
            gone += length;
        }
        Ok(())
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
