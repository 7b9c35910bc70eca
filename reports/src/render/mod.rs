// SPDX-License-Identifier: Apache-2.0
//! Writes a report: one HTML file that opens from disk, its charts as PNG, and a markdown twin.

mod axis;
mod chart;
mod data;
mod figure;
mod history;
mod html;
mod markdown;
mod palette;
mod path;
mod pen;
mod plan;
mod power;
mod script;
mod shell;
mod trace;
mod view;

use std::fs;
use std::path::{Path, PathBuf};

use record::Run;

use crate::ReportError;

pub use history::{History, history};
pub use power::power;
pub use trace::trace_page;

/// What [`render`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The page.
    pub html: PathBuf,
    /// Its markdown twin.
    pub markdown: PathBuf,
    /// The charts, in the page's order.
    pub pngs: Vec<PathBuf>,
    /// Charts that could not be drawn, with the reason; the page says the same in their place.
    pub missing: Vec<String>,
}

/// Renders the runs into `out_dir`, which is made if need be; files of an earlier report there are
/// written over. Histograms are read from the runs' own directories.
///
/// # Errors
/// The disk refuses. What a record lacks is not an error: the page says what is missing.
pub fn render(runs: &[Run], out_dir: &Path) -> Result<Rendered, ReportError> {
    pen::load_fonts()?;
    fs::create_dir_all(out_dir).map_err(io("create", out_dir))?;
    let (groups, families) = plan::plan(runs);
    let figures = figure::draw(plan::figures(&groups, &families), Some(out_dir));
    let pngs =
        figures.iter().filter_map(|f| f.png_file.as_ref()).map(|f| out_dir.join(f)).collect();
    let missing = figures
        .iter()
        .flat_map(|f| f.missing.iter().map(move |why| format!("{}: {why}", f.name)))
        .collect();
    let page = html::page(runs, &groups, &families, figures)?;
    let rendered = Rendered {
        html: out_dir.join("report.html"),
        markdown: out_dir.join("report.md"),
        pngs,
        missing,
    };
    write(&rendered.html, &page)?;
    write(&rendered.markdown, &markdown::text(runs, &groups, &families))?;
    Ok(rendered)
}

fn write(path: &Path, text: &str) -> Result<(), ReportError> {
    fs::write(path, text).map_err(io("write", path))
}

fn io<'a>(op: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> ReportError + 'a {
    move |source| ReportError::Io { op, path: path.to_owned(), source }
}
