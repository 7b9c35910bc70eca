// SPDX-License-Identifier: Apache-2.0
//! Judgement: whether B is faster, slower or the same as A, and how sure that is.
//!
//! The replicate is the block ([`record::BlockRecord`]), never the request: requests of one lab share
//! what making it left to chance. [`metric`] takes figures out of records, [`ratio`] and [`signed_rank`]
//! estimate and test, [`family`] corrects for their number, [`comparison`] says a word for each.
//! `docs/judgement.md` has the method and its sources.

pub mod comparison;
pub mod family;
pub mod looks;
pub mod metric;
pub mod power;
pub mod ratio;
pub mod say;
pub mod signed_rank;
pub mod terms;
pub mod within;

pub use comparison::{Comparison, Row, Times, judge};
pub use metric::{Metric, Replicates};
pub use terms::Terms;
