// SPDX-License-Identifier: Apache-2.0
//! What a person sees while a run goes on: one line that moves, or plain lines where it cannot.

use std::io::IsTerminal;
use std::time::Duration;

use harness::event::{Event, Receiver, Step};
use harness::plan::Profile;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use record::{Run, Status};
use reports::table::Table;

use crate::look;

/// Receives a run's events. Everything goes to standard error: standard output is the result's.
#[derive(Debug)]
pub(super) struct Terminal {
    bar: ProgressBar,
    moving: bool,
    steps_per_case: u64,
    iterations: u32,
}

impl Terminal {
    /// A bar on a terminal, lines in a pipe and in CI.
    pub(super) fn new(profile: &Profile) -> Self {
        let moving = std::io::stderr().is_terminal() && !look::in_ci();
        let target =
            if moving { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(0), target).with_style(style());
        if moving {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        let iterations = profile.run.iterations;
        // Up, warm-up, iterations, down.
        Self { bar, moving, steps_per_case: u64::from(iterations) + 3, iterations }
    }

    fn line(&self, text: &str) {
        if self.moving {
            self.bar.println(text);
        } else {
            eprintln!("{text}");
        }
    }
}

impl Receiver for Terminal {
    fn event(&mut self, event: &Event) {
        match event {
            Event::RunStart { run_id, cases, load_ms } => {
                let seconds = load_ms.div_ceil(1000);
                self.line(&format!("run {run_id}: {cases} cases, {seconds} s of load at most"));
                self.bar.set_length(*cases as u64 * self.steps_per_case);
            }
            Event::GroupStart { .. } => {}
            Event::Step { case, step } => {
                self.bar.inc(1);
                self.bar.set_message(format!("{case}: {}", words(*step, self.iterations)));
            }
            Event::CaseEnd { case, status, because } => {
                let because = because.as_deref().unwrap_or_default();
                match status {
                    Status::Measured if self.moving => {}
                    Status::Measured => self.line(&format!("measured {case}")),
                    Status::Skipped => self.line(&format!("skipped  {case}: {because}")),
                    Status::Failed => self.line(&format!("FAILED   {case}: {because}")),
                }
            }
            Event::Warning { case, message } => {
                let case = case.as_deref().map(|case| format!("{case}: ")).unwrap_or_default();
                self.line(&format!("warning: {case}{message}"));
            }
            Event::RunEnd { .. } => self.bar.finish_and_clear(),
        }
    }
}

fn words(step: Step, iterations: u32) -> String {
    match step {
        Step::Up => "building and proving".to_owned(),
        Step::WarmUp => "warming up".to_owned(),
        Step::Iteration(i) => format!("iteration {i} of {iterations}"),
        Step::Down => "taking down".to_owned(),
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template(
        "{bar:24} {pos}/{len} {elapsed_precise} (about {eta} left) {wide_msg}",
    )
    .expect("a constant template")
}

/// The run as a table, as wide as the terminal and coloured where it wants colour.
pub(super) fn table(run: &Run) -> String {
    Table::of(std::slice::from_ref(run)).text(look::of_stdout())
}
