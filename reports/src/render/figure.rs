// SPDX-License-Identifier: Apache-2.0
//! Draws planned charts twice with the same code: as SVG for the page and as PNG beside it.

use std::collections::HashSet;
use std::path::Path;
use std::thread;

use plotters::backend::{BitMapBackend, SVGBackend};
use plotters::drawing::IntoDrawingArea;
use record::path_component;

use crate::render::chart::Chart;
use crate::render::data;
use crate::render::pen::{DrawError, Mark, Pen};
use crate::render::plan::Planned;

/// Most threads that draw at once; drawing is short and the machine may be measuring elsewhere.
const THREADS_MAX: usize = 4;

/// A drawn chart, or the reasons why it is not there.
pub(crate) struct Figure {
    /// Stem of its file, unique in the report.
    pub(crate) name: String,
    pub(crate) alt: String,
    pub(crate) caption: String,
    /// Canvas, pixels.
    pub(crate) size: (u32, u32),
    /// Elements of the SVG, without its outermost one. Empty where there is none.
    pub(crate) svg: String,
    /// Name of the PNG beside the page.
    pub(crate) png_file: Option<String>,
    pub(crate) missing: Vec<String>,
    /// What the SVG shows in words, place by place.
    pub(crate) marks: Vec<Mark>,
    /// The figures behind it for the page's script, safe in a script element. Empty for charts that the
    /// script does not draw anew.
    pub(crate) data: String,
}

impl Figure {
    /// Width on the page: two canvas pixels are shown as one, which keeps lines fine.
    pub(crate) fn css_width(&self) -> u32 {
        self.size.0 / 2
    }
}

/// Draws all charts, in order. PNG files go to `png_dir`, where one is given.
pub(crate) fn draw(planned: Vec<Planned>, png_dir: Option<&Path>) -> Vec<Figure> {
    let mut names = HashSet::new();
    let work: Vec<(String, Planned)> =
        planned.into_iter().map(|p| (unique(path_component(&p.name), &mut names), p)).collect();
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let share = work.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let workers: Vec<_> = work
            .chunks(share)
            .map(|chunk| {
                scope.spawn(move || chunk.iter().map(|(name, p)| one(name, p, png_dir)).collect())
            })
            .collect();
        let joined = workers.into_iter().map(|worker| {
            let figures: Vec<Figure> = worker.join().expect("drawing panics only on a bug");
            figures
        });
        joined.flatten().collect()
    })
}

/// Names cut short or made safe may fall together; a number keeps their files apart.
fn unique(name: String, taken: &mut HashSet<String>) -> String {
    let numbered = (2..).map(|n: u32| format!("{name}-{n}"));
    let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name));
    let free = free.expect("numbers do not run out");
    taken.insert(free.clone());
    free
}

fn one(name: &str, planned: &Planned, png_dir: Option<&Path>) -> Figure {
    let mut figure = Figure {
        name: name.to_owned(),
        alt: planned.alt.clone(),
        caption: planned.caption.clone(),
        size: (0, 0),
        svg: String::new(),
        png_file: None,
        missing: Vec::new(),
        marks: Vec::new(),
        data: String::new(),
    };
    let chart = match &planned.chart {
        Ok(chart) => chart,
        Err(why) => {
            figure.missing.push(why.clone());
            return figure;
        }
    };
    figure.size = chart.size();
    match svg(chart) {
        Ok((svg, marks)) => {
            (figure.svg, figure.marks) = (svg, marks);
            figure.data = data::of(chart);
        }
        Err(error) => figure.missing.push(error.to_string()),
    }
    if let Some(dir) = png_dir {
        let file = format!("{name}.png");
        match png(chart, &dir.join(&file)) {
            Ok(()) => figure.png_file = Some(file),
            Err(error) => figure.missing.push(format!("{file}: {error}")),
        }
    }
    figure
}

fn svg(chart: &Chart) -> Result<(String, Vec<Mark>), DrawError> {
    let mut text = String::new();
    let pen = Pen::new(SVGBackend::with_string(&mut text, chart.size()).into_drawing_area(), 0)?;
    chart.draw(&pen)?;
    let marks = pen.finish()?;
    // The page brings its own outermost element, with a role and a name.
    let inner = text.split_once('>').and_then(|(_, rest)| rest.trim_end().strip_suffix("</svg>"));
    let inner = inner.map(|svg| (svg.to_owned(), marks));
    inner.ok_or_else(|| DrawError::new("the SVG has no outermost element"))
}

/// Draws a chart into a PNG file.
pub(crate) fn png(chart: &Chart, path: &Path) -> Result<(), DrawError> {
    let pen = Pen::new(BitMapBackend::new(path, chart.size()).into_drawing_area(), 4)?;
    chart.draw(&pen)?;
    pen.finish().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fall_together_get_numbers() {
        let mut taken = HashSet::new();
        let names = ["a", "a", "a-2", "a"].map(|name| unique(name.to_owned(), &mut taken));
        assert_eq!(names, ["a", "a-2", "a-2-2", "a-3"]);
    }
}
