// SPDX-License-Identifier: Apache-2.0
//! Words set into lines of a given width.

use crate::analysis::number::one_line;
use crate::look::Look;

/// Words waiting to be set, each with its rendition.
pub(super) struct Paragraph {
    words: Vec<(String, &'static str)>,
    /// Columns left free before the first line, and before the others.
    indents: (usize, usize),
}

impl Paragraph {
    pub(super) fn new(indent: usize, hanging: usize) -> Self {
        Self { words: Vec::new(), indents: (indent, hanging) }
    }

    /// Adds a text, whose spaces are where lines may end.
    pub(super) fn say(mut self, text: &str, code: &'static str) -> Self {
        let text = one_line(text);
        self.words.extend(text.split(' ').filter(|w| !w.is_empty()).map(|w| (w.to_owned(), code)));
        self
    }

    /// Adds something that no line ends within, if it fits a line at all.
    pub(super) fn keep(mut self, text: String, code: &'static str) -> Self {
        self.words.push((text, code));
        self
    }

    /// Appends the lines to `out`. No line is wider than `width`; a word that is too long for a
    /// line of its own is cut.
    pub(super) fn set(self, look: Look, width: usize, out: &mut String) {
        if self.words.is_empty() {
            return;
        }
        let (mut column, mut fresh) = (self.indents.0, true);
        out.push_str(&" ".repeat(column));
        let room = width.saturating_sub(self.indents.1).max(1);
        for (word, code) in &self.words {
            for piece in pieces(word, room) {
                let wide = piece.chars().count();
                let gap = usize::from(!fresh);
                if column + gap + wide > width && !fresh {
                    out.push('\n');
                    out.push_str(&" ".repeat(self.indents.1));
                    column = self.indents.1;
                } else if !fresh {
                    out.push(' ');
                    column += 1;
                }
                out.push_str(&look.paint(code, &piece));
                column += wide;
                fresh = false;
            }
        }
        out.push('\n');
    }
}

/// The word, cut where it is longer than a line.
fn pieces(word: &str, room: usize) -> Vec<String> {
    let letters: Vec<char> = word.chars().collect();
    letters.chunks(room).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_line_is_wider_than_asked_and_no_letter_is_lost(
            text in "[a-z ]{0,200}|[a-z]{50,120}",
            width in 20usize..100,
            indent in 0usize..8,
        ) {
            let mut out = String::new();
            Paragraph::new(indent, indent + 2).say(&text, "1").set(Look::default(), width, &mut out);
            prop_assert!(out.lines().all(|line| line.chars().count() <= width), "{out}");
            let letters = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(letters(&out), letters(&text));
        }
    }
}
