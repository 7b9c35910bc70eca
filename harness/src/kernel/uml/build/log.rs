// SPDX-License-Identifier: Apache-2.0
//! The end of what a build's programs wrote.

use std::collections::VecDeque;

/// Most that is kept, bytes.
const BYTES_MAX: usize = 1 << 20;
/// Most that is kept of a line, bytes.
const LINE_MAX: usize = 4096;
/// Lines that an error shows.
const TAIL: usize = 12;

/// Lines, the oldest forgotten.
#[derive(Debug, Default)]
pub(super) struct Log {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Log {
    pub(super) fn push(&mut self, line: &str) {
        let mut end = line.len().min(LINE_MAX);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        self.bytes += end + 1;
        self.lines.push_back(line[..end].to_owned());
        while self.bytes > BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len() + 1;
        }
    }

    pub(super) fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    pub(super) fn tail(&self) -> String {
        let skipped = self.lines.len().saturating_sub(TAIL);
        let lines: Vec<_> = self.lines.iter().skip(skipped).map(String::as_str).collect();
        lines.join("\n")
    }
}
