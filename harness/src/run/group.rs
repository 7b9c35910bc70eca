// SPDX-License-Identifier: Apache-2.0
//! One group: its cases are up together, and their iterations take turns.

use record::{CaseFiles, CaseRecord};

use super::tally::Tally;
use crate::Cancel;
use crate::event::{Event, Step};
use crate::lab::{Bed, Lab, LabError};
use crate::plan::{Case, Group, Profile};

/// A case on its way through the group.
struct Seat<'a> {
    id: String,
    case: &'a Case,
    bed: Option<Box<dyn Bed>>,
    tally: Tally,
    error: Option<LabError>,
}

impl Seat<'_> {
    /// Does one step with the bed; the first error ends the case, not the group.
    fn step(&mut self, work: impl FnOnce(&mut dyn Bed, &mut Tally) -> Result<(), LabError>) {
        if let (Some(bed), None) = (&mut self.bed, &self.error) {
            self.error = work(bed.as_mut(), &mut self.tally).err();
        }
    }
}

/// Measures a group's cases. Cases that a stop cut short before their first iteration are left out.
pub(super) fn measure(
    profile: &Profile,
    group: &Group,
    lab: &dyn Lab,
    cancel: &Cancel,
    say: &mut dyn FnMut(Event),
) -> Vec<(CaseRecord, CaseFiles)> {
    let mut seats: Vec<_> =
        group.cases.iter().map(|case| seat(profile, case, lab, cancel, say)).collect();
    for seat in &mut seats {
        if !cancel.requested() {
            step(say, &seat.id, Step::WarmUp);
            seat.step(|bed, _| bed.warm_up(cancel));
        }
    }
    let mut sequence = 0;
    for iteration in 1..=profile.run.iterations {
        // A B C, C B A, ...: a drift that is linear in time falls on all modes alike (ABBA).
        let forward = iteration % 2 == 1;
        let order: Vec<usize> =
            if forward { (0..seats.len()).collect() } else { (0..seats.len()).rev().collect() };
        for index in order {
            let seat = &mut seats[index];
            if cancel.requested() || seat.bed.is_none() || seat.error.is_some() {
                continue;
            }
            step(say, &seat.id, Step::Iteration(iteration));
            seat.step(|bed, tally| {
                tally.add(sequence, bed.iterate(cancel)?);
                Ok(())
            });
            sequence += 1;
        }
    }
    let mut settling = Vec::new();
    let ended: Vec<_> =
        seats.into_iter().map(|seat| end(seat, lab, cancel, say, &mut settling)).collect();
    for (case, settle) in settling {
        for message in settle() {
            say(Event::Warning { case: Some(case.clone()), message });
        }
    }
    ended.into_iter().flatten().collect()
}

/// What is still to be waited for, and the case it is of.
type Settling = (String, Box<dyn FnOnce() -> Vec<String>>);

fn step(say: &mut dyn FnMut(Event), id: &str, step: Step) {
    say(Event::Step { case: id.to_owned(), step });
}

fn seat<'a>(
    profile: &Profile,
    case: &'a Case,
    lab: &dyn Lab,
    cancel: &Cancel,
    say: &mut dyn FnMut(Event),
) -> Seat<'a> {
    let id = case.id(lab.name());
    let (bed, error) = if cancel.requested() {
        (None, Some(LabError::Cancelled))
    } else {
        step(say, &id, Step::Up);
        match lab.up(case, cancel) {
            Ok(bed) => (Some(bed), None),
            Err(error) => (None, Some(error)),
        }
    };
    Seat { id, case, bed, tally: Tally::new(profile.run.trace_slowest), error }
}

fn end(
    seat: Seat<'_>,
    lab: &dyn Lab,
    cancel: &Cancel,
    say: &mut dyn FnMut(Event),
    settling: &mut Vec<Settling>,
) -> Option<(CaseRecord, CaseFiles)> {
    let Seat { id, case, bed, tally, error } = seat;
    let mut ready = None;
    let mut down_ms = None;
    if let Some(bed) = bed {
        step(say, &id, Step::Down);
        ready = Some(bed.ready().clone());
        let down = bed.down();
        down_ms = Some(down.ms);
        settling.push((id.clone(), down.settle));
        for message in down.errors {
            say(Event::Warning { case: Some(id.clone()), message });
        }
    }
    // An iteration that a stop cut short fails; what was measured before it stands.
    let stopped =
        cancel.requested() && (tally.is_empty() || matches!(error, Some(LabError::Cancelled)));
    if stopped && tally.is_empty() {
        return None;
    }
    let error = error.filter(|error| !(cancel.requested() && matches!(error, LabError::Cancelled)));
    Some(tally.into_record(id, lab.name(), case, ready, down_ms, error))
}
