// SPDX-License-Identifier: Apache-2.0
//! A guest's console: its last lines are kept, and read for why it ended.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

/// Lines kept.
const LINES_MAX: usize = 60;
/// Longest line read in one piece, bytes.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Longest line kept, bytes.
const LINE_BYTES_KEPT: usize = 400;

/// The last lines of a stream that is drained to its end, so that the guest never waits for it.
#[derive(Debug)]
pub(super) struct Console {
    lines: Arc<Mutex<Lines>>,
    ended: mpsc::Receiver<()>,
}

#[derive(Debug, Default)]
struct Lines {
    last: VecDeque<String>,
    /// The first line that says why the kernel stopped: it may have scrolled away since.
    verdict: Option<String>,
}

impl Lines {
    fn push(&mut self, line: &[u8]) {
        let text: String = String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES_KEPT)])
            .chars()
            .filter(|c| !c.is_control() || *c == '\t')
            .collect();
        if self.verdict.is_none() {
            self.verdict = verdict(&text);
        }
        if self.last.len() == LINES_MAX {
            self.last.pop_front();
        }
        self.last.push_back(text);
    }
}

impl Console {
    /// Drains `stream` on a thread of its own.
    pub(super) fn keep(stream: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Lines::default()));
        let (end, ended) = mpsc::sync_channel(1);
        let kept = Arc::clone(&lines);
        std::thread::spawn(move || {
            let (mut stream, mut line) = (BufReader::new(stream), Vec::new());
            // What is longer than a line is kept in pieces: the stream is read to its end, always.
            while let Ok(1..) = stream.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(&line);
                line.clear();
            }
            let _ = end.send(());
        });
        Self { lines, ended }
    }

    /// Adds a line that came another way.
    pub(super) fn add(&self, line: &[u8]) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// The last lines so far.
    pub(super) fn last_lines(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.last.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Why the kernel stopped, in its own words, if it said so. To be asked when the guest has
    /// ended: waits until the stream has too.
    pub(super) fn verdict(&self, patience: Duration) -> Option<String> {
        let _ = self.ended.recv_timeout(patience);
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).verdict.clone()
    }
}

/// What a line says about the kernel's end; `kernel/panic.c` and `mm/oom_kill.c` write these.
fn verdict(line: &str) -> Option<String> {
    let (_, panic) = line.split_once("Kernel panic - not syncing: ")?;
    Some(if panic.to_lowercase().contains("out of memory") {
        format!("it ran out of memory ({panic})")
    } else {
        format!("it panicked: {panic}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(text: &'static str) -> Console {
        Console::keep(text.as_bytes())
    }

    #[test]
    fn a_panic_is_told_in_the_kernels_own_words_though_a_long_trace_follows() {
        let text: String = (0..200).map(|n| format!(" [<{n:x}>] ? trace\n")).collect();
        let text =
            format!("boot\n[ 1.0] Kernel panic - not syncing: sysrq triggered crash\n{text}");
        let console = console(text.leak());
        let verdict = console.verdict(Duration::from_secs(5)).unwrap();
        assert_eq!(verdict, "it panicked: sysrq triggered crash");
        assert_eq!(console.last_lines().lines().count(), LINES_MAX);
    }

    #[test]
    fn a_lack_of_memory_is_told_as_one() {
        let line =
            "Kernel panic - not syncing: Out of memory: compulsory panic_on_oom is enabled\n";
        let verdict = console(line).verdict(Duration::from_secs(5)).unwrap();
        assert!(verdict.starts_with("it ran out of memory"), "{verdict}");
    }

    #[test]
    fn a_console_without_an_end_of_line_is_bounded_and_control_characters_are_taken_out() {
        let long = "x".repeat(100_000).leak();
        assert_eq!(console(long).verdict(Duration::from_secs(5)), None);
        let plain = console("\u{1b}[31mred\u{7}\n");
        assert_eq!(plain.verdict(Duration::from_secs(5)), None);
        assert_eq!(plain.last_lines(), "[31mred\n");
    }
}
