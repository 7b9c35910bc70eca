// SPDX-License-Identifier: Apache-2.0
//! What the page's template fills in: figures turned into text, nothing computed beyond that.

mod case;
mod crossing;
mod family;
mod group;
mod host;
mod kernel;
mod lab;
mod probe;
mod published;
mod refusal;
mod summary;
mod verdict;
mod walk;
mod walks;

pub(crate) use case::CaseView;
pub(crate) use crossing::CrossingsView;
pub(crate) use family::{FamilyView, views};
pub(crate) use group::GroupView;
pub(crate) use host::HostView;
pub(crate) use kernel::{KERNEL_HEAD, MatchView, kernel_columns, kernel_rows};
pub(crate) use lab::LabsView;
pub(crate) use probe::{
    CellView, PROBE_HEAD, ReasonView, RowView, count_rows, probe_reasons, probe_rows,
};
pub(crate) use published::Published;
pub(crate) use refusal::{FailureView, SkipView, failures, skips};
pub(crate) use summary::SummaryGroup;
pub(crate) use verdict::{VerdictView, verdicts};
pub(crate) use walk::WalkView;
pub(crate) use walks::{CaseWalksView, walks};

/// A name and what it is.
pub(crate) struct Fact {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl Fact {
    pub(crate) fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}
