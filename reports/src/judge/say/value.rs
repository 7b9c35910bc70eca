// SPDX-License-Identifier: Apache-2.0
//! A metric's figures as text.

use crate::analysis::number::{NONE, count, digits, time};
use crate::judge::comparison::Row;
use crate::judge::metric::Kind;

/// A value with its unit.
pub(crate) fn value(kind: Kind, value: f64) -> String {
    match kind {
        Kind::Time | Kind::Stage => time(value),
        Kind::Rate => format!("{}/s", digits(value)),
        Kind::Count => count(value as u64),
    }
}

/// The ratio with its interval: `×1.023 (1.011 to 1.035)`. Four digits: a ratio near one has its news in
/// the third and fourth.
pub(crate) fn ratio(row: &Row) -> String {
    row.ratio.map_or_else(
        || NONE.to_owned(),
        |ratio| format!("×{:.3} ({:.3} to {:.3})", ratio.estimate, ratio.low, ratio.high),
    )
}

/// An adjusted p.
pub(crate) fn p(row: &Row) -> String {
    match row.p {
        None => NONE.to_owned(),
        Some(p) if p < 0.0001 => "<0.0001".to_owned(),
        Some(p) => format!("{p:.4}"),
    }
}
