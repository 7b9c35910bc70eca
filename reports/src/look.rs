// SPDX-License-Identifier: Apache-2.0
//! How a terminal wants its text.

/// What the caller knows of the terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Whether to colour with ANSI sequences; the caller knows `NO_COLOR`, pipes and terminals.
    pub colour: bool,
    /// Columns of the terminal; none where there is no terminal.
    pub width: Option<usize>,
}

impl Look {
    /// The text in a graphic rendition, where there is colour at all.
    pub(crate) fn paint(self, code: &str, text: &str) -> String {
        if self.colour && !code.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
