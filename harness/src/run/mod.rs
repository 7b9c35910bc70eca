// SPDX-License-Identifier: Apache-2.0
//! One run: every group of the plan built, measured and taken down, every case to the record.

mod block;
mod effect;
mod group;
mod tally;

use record::{BlockRecord, CaseRecord, RecordError, RunWriter, Status};

use crate::Cancel;
use crate::event::{Event, Receiver};
use crate::lab::Lab;
use crate::plan::{Plan, Profile};

/// Sends each event to the receiver and to the record. The record's first error is kept until the
/// group it met is down: a full disk must not leave a lab up.
struct Log<'a> {
    writer: &'a mut RunWriter,
    receiver: &'a mut dyn Receiver,
    error: Option<RecordError>,
}

impl Log<'_> {
    fn say(&mut self, event: Event) {
        self.receiver.event(&event);
        let written = self.writer.event(&event);
        self.error = self.error.take().or(written.err());
    }

    fn checked(&mut self) -> Result<(), RecordError> {
        self.error.take().map_or(Ok(()), Err)
    }
}

/// How far a case of a group has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Its id.
    pub case: &'a str,
    /// Blocks that have ended, at least one.
    pub blocks: &'a [BlockRecord],
}

/// Whether a group has been measured enough; asked after each block but the last one, and not of
/// groups in which nothing could be measured.
pub type Enough<'a> = dyn FnMut(&[Progress<'_>]) -> bool + 'a;

/// Runs a plan in a lab, all its blocks. Cases go to `writer` as their group ends; a case that cannot run or fails
/// is in the record with its reason, and the others go on.
///
/// # Errors
/// The record cannot be written. What was written before stays whole.
pub fn run(
    profile: &Profile,
    plan: &Plan,
    lab: &dyn Lab,
    writer: &mut RunWriter,
    receiver: &mut dyn Receiver,
    cancel: &Cancel,
) -> Result<(), RecordError> {
    run_until(profile, plan, lab, writer, receiver, cancel, &mut |_| false)
}

/// The same, but a group ends after the block at which `enough` says so.
///
/// # Errors
/// Those of [`run`].
pub fn run_until(
    profile: &Profile,
    plan: &Plan,
    lab: &dyn Lab,
    writer: &mut RunWriter,
    receiver: &mut dyn Receiver,
    cancel: &Cancel,
    enough: &mut Enough<'_>,
) -> Result<(), RecordError> {
    let mut log = Log { writer, receiver, error: None };
    log.say(Event::RunStart {
        run_id: log.writer.summary().run_id.clone(),
        cases: plan.cases(),
        load_ms: profile.run.case_load_ms() * plan.cases() as u64,
    });
    for group in &plan.groups {
        if cancel.requested() {
            break;
        }
        let cases = group.cases.iter().map(|case| case.id(lab.name())).collect();
        log.say(Event::GroupStart { cases });
        let outcomes =
            group::measure(profile, group, lab, cancel, &mut |event| log.say(event), enough);
        log.checked()?;
        for (case, files) in outcomes {
            let end = case_end(&case);
            log.writer.case(case, &files)?;
            log.say(end);
        }
    }
    log.say(Event::RunEnd { interrupted: cancel.requested() });
    log.checked()
}

fn case_end(case: &CaseRecord) -> Event {
    let because = match case.status {
        Status::Measured => None,
        Status::Skipped => case
            .reason
            .as_ref()
            .map(|reason| format!("needs {}; found {}", reason.need, reason.found)),
        Status::Failed => case.failure.as_ref().map(|failure| failure.message.clone()),
    };
    Event::CaseEnd { case: case.id.clone(), status: case.status, because }
}
