// SPDX-License-Identifier: Apache-2.0
//! What the figures say: groups, ratios, fits and words. Pure: nothing here reads or draws.

pub mod baseline;
pub mod change;
pub mod crossing;
pub mod curve;
pub mod fidelity;
pub mod fit;
pub mod glossary;
pub mod group;
pub mod headline;
pub mod host;
pub mod kernel;
pub mod lab;
pub mod mode;
pub mod number;
pub mod pair;
pub mod probe;
pub mod published;
pub(crate) mod random;
pub mod skip;
pub mod slope;
pub mod stage;
pub mod student;
pub mod summary;
pub mod walk;
