// SPDX-License-Identifier: Apache-2.0
//! A page of walks by themselves.

use askama::Template;
use record::Walk;

use crate::ReportError;
use crate::analysis::number::plural;
use crate::render::view::WalkView;

#[derive(Template)]
#[template(path = "trace.html")]
struct Page {
    title: String,
    /// Case and walk.
    walks: Vec<(String, WalkView)>,
    version: &'static str,
}

/// The walks as one HTML file: no script, nothing fetched.
///
/// # Errors
/// The template refuses, which is a bug.
pub fn trace_page(walks: &[Walk]) -> Result<String, ReportError> {
    let title = match walks {
        [_] => "One request, step by step".to_owned(),
        some => format!("{}, step by step", plural(some.len(), "request", "requests")),
    };
    let views = walks.iter().map(|walk| (walk.case.clone(), WalkView::new(walk, None)));
    let page = Page { title, walks: views.collect(), version: env!("CARGO_PKG_VERSION") };
    page.render().map_err(|source| ReportError::Template { source })
}
