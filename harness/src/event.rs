// SPDX-License-Identifier: Apache-2.0
//! What a run says while it runs. The terminal, `events.jsonl` and tests are receivers.

use record::Status;
use serde::Serialize;

/// One event. Groups and cases come in order and never overlap, but the steps of a group's cases do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The plan stands.
    RunStart {
        /// Name of the run.
        run_id: String,
        /// Cases planned.
        cases: usize,
        /// Measured time and warm-ups, milliseconds; set-up comes on top.
        load_ms: u64,
    },
    /// A group begins.
    GroupStart {
        /// Ids of its cases.
        cases: Vec<String>,
    },
    /// A case takes a step.
    Step {
        /// Case.
        case: String,
        /// Which step.
        step: Step,
    },
    /// A case is in the record.
    CaseEnd {
        /// Case.
        case: String,
        /// How it ended.
        status: Status,
        /// Reason or failure in one sentence.
        because: Option<String>,
    },
    /// Something the user has to know that ends nothing.
    Warning {
        /// Case it belongs to.
        case: Option<String>,
        /// One sentence.
        message: String,
    },
    /// The run is complete, or was stopped.
    RunEnd {
        /// Whether a stop was asked for.
        interrupted: bool,
    },
}

/// Step of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Hosts, wiring, mode and proof.
    Up,
    /// Load whose figures are dropped.
    WarmUp,
    /// One iteration, from 1.
    Iteration(u32),
    /// Taking down.
    Down,
}

/// Takes the events of a run.
pub trait Receiver {
    /// Takes one event.
    fn event(&mut self, event: &Event);
}

impl Receiver for Vec<Event> {
    fn event(&mut self, event: &Event) {
        self.push(event.clone());
    }
}
