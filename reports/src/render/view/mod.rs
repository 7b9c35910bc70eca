// SPDX-License-Identifier: Apache-2.0
//! What the page's template fills in: figures turned into text, nothing computed beyond that.

mod case;
mod family;
mod group;
mod host;
mod refusal;
mod summary;
mod walk;

pub(crate) use case::CaseView;
pub(crate) use family::FamilyView;
pub(crate) use group::GroupView;
pub(crate) use host::HostView;
pub(crate) use refusal::{FailureView, SkipView, failures, skips};
pub(crate) use summary::SummaryGroup;
pub(crate) use walk::WalkView;

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
