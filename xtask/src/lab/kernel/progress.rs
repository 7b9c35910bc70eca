// SPDX-License-Identifier: Apache-2.0
//! How a build goes: one line that moves, or where it cannot, a line a step and a line a minute.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use harness::kernel::uml::build::Doing;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::look;

/// How often a line is written where no line can move.
const EVERY: Duration = Duration::from_secs(60);

/// Shows a build's steps on standard error.
pub(super) struct Progress {
    bar: ProgressBar,
    moving: bool,
    began: Instant,
    said: Instant,
    step: String,
    lines: u64,
}

impl Progress {
    pub(super) fn new() -> Self {
        let moving = std::io::stderr().is_terminal() && !look::in_ci();
        let target =
            if moving { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{spinner} {elapsed_precise} {prefix} {wide_msg}")
            .expect("a constant template");
        let bar = ProgressBar::with_draw_target(None, target).with_style(style);
        if moving {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        let now = Instant::now();
        Self { bar, moving, began: now, said: now, step: String::new(), lines: 0 }
    }

    pub(super) fn tell(&mut self, doing: Doing<'_>) {
        match doing {
            Doing::Step(step) => {
                step.clone_into(&mut self.step);
                self.lines = 0;
                self.bar.set_prefix(format!("{step}:"));
                self.bar.set_message("");
                self.say("");
            }
            Doing::Line(line) => {
                self.lines += 1;
                // `  CC      net/ipv4/tcp.o`.
                let words: Vec<_> = line.split_whitespace().collect();
                self.bar.set_message(format!("{} {}", self.lines, words.join(" ")));
                if self.said.elapsed() >= EVERY {
                    self.say(&format!(", {} lines", self.lines));
                }
            }
        }
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn say(&mut self, more: &str) {
        self.said = Instant::now();
        if !self.moving {
            eprintln!("{:4} s  {}{more}", self.began.elapsed().as_secs(), self.step);
        }
    }
}
