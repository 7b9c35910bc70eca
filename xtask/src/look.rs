// SPDX-License-Identifier: Apache-2.0
//! What standard output wants: colour or not, and how many columns.

use std::io::IsTerminal;

use console::Term;
use reports::table::Look;

/// `CI=true` is the convention of every CI service.
pub(crate) fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false")
}

/// Of standard output: coloured where it is a terminal that wants colour.
pub(crate) fn of_stdout() -> Look {
    let colour = std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && !in_ci();
    let width = Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
    Look { colour, width }
}
