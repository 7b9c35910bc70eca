// SPDX-License-Identifier: Apache-2.0
//! One group: its cases are up together, and their iterations take turns.

use record::{CaseFiles, CaseRecord};

use super::tally::Tally;
use super::{Enough, Progress};
use crate::Cancel;
use crate::event::{Event, Step};
use crate::lab::{Bed, Lab, LabError, Ready};
use crate::plan::{Case, Group, Profile};

/// A case on its way through the group.
struct Seat<'a> {
    id: String,
    case: &'a Case,
    bed: Option<Box<dyn Bed>>,
    /// Of the last bed there was.
    ready: Option<Ready>,
    /// Taking the last bed down, and programming one Service more before; milliseconds.
    down: Option<(f64, Option<f64>)>,
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

/// Measures a group's cases, block by block until `enough`. Cases that a stop cut short before their
/// first iteration are left out.
pub(super) fn measure(
    profile: &Profile,
    group: &Group,
    lab: &dyn Lab,
    cancel: &Cancel,
    say: &mut dyn FnMut(Event),
    enough: &mut Enough<'_>,
) -> Vec<(CaseRecord, CaseFiles)> {
    let mut seats: Vec<_> = group.cases.iter().map(|case| seat(profile, case, lab)).collect();
    let mut sequence = 0;
    for number in 0..profile.run.blocks {
        block(profile, number, &mut seats, lab, cancel, say, &mut sequence);
        if cancel.requested() || seats.iter().all(|seat| seat.error.is_some()) {
            break;
        }
        let measured = seats.iter().filter(|seat| seat.error.is_none());
        let progress: Vec<_> =
            measured.map(|seat| Progress { case: &seat.id, blocks: seat.tally.blocks() }).collect();
        if number + 1 < profile.run.blocks && enough(&progress) {
            break;
        }
    }
    seats.into_iter().filter_map(|seat| end(seat, lab, cancel)).collect()
}

/// One block: hosts up, load on all cases in turns, hosts down.
fn block(
    profile: &Profile,
    number: u32,
    seats: &mut [Seat<'_>],
    lab: &dyn Lab,
    cancel: &Cancel,
    say: &mut dyn FnMut(Event),
    sequence: &mut u32,
) {
    // Which case comes first changes from block to block, as it does between iterations.
    for index in order(seats.len(), number.is_multiple_of(2)) {
        up(&mut seats[index], lab, cancel, say);
    }
    for index in order(seats.len(), number.is_multiple_of(2)) {
        let seat = &mut seats[index];
        if !cancel.requested() && seat.bed.is_some() {
            step(say, &seat.id, Step::WarmUp);
            seat.step(|bed, _| bed.warm_up(cancel));
        }
    }
    for iteration in 1..=profile.run.iterations {
        // A B C, C B A, ...: a drift that is linear in time falls on all modes alike (ABBA).
        for index in order(seats.len(), (iteration + number) % 2 == 1) {
            let seat = &mut seats[index];
            if cancel.requested() || seat.bed.is_none() || seat.error.is_some() {
                continue;
            }
            step(say, &seat.id, Step::Iteration(iteration));
            let at = *sequence;
            seat.step(|bed, tally| {
                tally.add(at, bed.iterate(cancel)?);
                Ok(())
            });
            *sequence += 1;
        }
    }
    let settling: Vec<_> = seats.iter_mut().filter_map(|seat| down(seat, cancel, say)).collect();
    for (case, settle) in settling {
        for message in settle() {
            say(Event::Warning { case: Some(case.clone()), message });
        }
    }
}

/// Places 0 to `seats - 1`, or the other way round.
fn order(seats: usize, forward: bool) -> Vec<usize> {
    if forward { (0..seats).collect() } else { (0..seats).rev().collect() }
}

/// What is still to be waited for, and the case it is of.
type Settling = (String, Box<dyn FnOnce() -> Vec<String>>);

fn step(say: &mut dyn FnMut(Event), id: &str, step: Step) {
    say(Event::Step { case: id.to_owned(), step });
}

fn seat<'a>(profile: &Profile, case: &'a Case, lab: &dyn Lab) -> Seat<'a> {
    let workload = &profile.workload[&case.workload];
    let bodies = (workload.request_bytes, workload.response_bytes);
    Seat {
        id: case.id(lab.name()),
        case,
        bed: None,
        ready: None,
        down: None,
        tally: Tally::new(profile.run.trace_slowest, bodies),
        error: None,
    }
}

/// Builds a case's hosts, unless an earlier block showed that it cannot be measured.
fn up(seat: &mut Seat<'_>, lab: &dyn Lab, cancel: &Cancel, say: &mut dyn FnMut(Event)) {
    if seat.error.is_some() {
        return;
    }
    if cancel.requested() {
        seat.error = Some(LabError::Cancelled);
        return;
    }
    step(say, &seat.id, Step::Up);
    match lab.up(seat.case, cancel) {
        Ok(bed) => seat.bed = Some(bed),
        Err(error) => seat.error = Some(error),
    }
}

/// Takes a case's hosts down. A block that was cut short is no replicate.
fn down(seat: &mut Seat<'_>, cancel: &Cancel, say: &mut dyn FnMut(Event)) -> Option<Settling> {
    let bed = seat.bed.take()?;
    step(say, &seat.id, Step::Down);
    let ready = bed.ready().clone();
    if seat.error.is_none() && !cancel.requested() {
        seat.tally.end_block(&ready);
    }
    seat.ready = Some(ready);
    let down = bed.down();
    seat.down = Some((down.ms, down.add_one_ms));
    for message in down.errors {
        say(Event::Warning { case: Some(seat.id.clone()), message });
    }
    Some((seat.id.clone(), down.settle))
}

fn end(seat: Seat<'_>, lab: &dyn Lab, cancel: &Cancel) -> Option<(CaseRecord, CaseFiles)> {
    let Seat { id, case, ready, down, tally, error, .. } = seat;
    // An iteration that a stop cut short fails; what was measured before it stands.
    let stopped =
        cancel.requested() && (tally.is_empty() || matches!(error, Some(LabError::Cancelled)));
    if stopped && tally.is_empty() {
        return None;
    }
    let error = error.filter(|error| !(cancel.requested() && matches!(error, LabError::Cancelled)));
    Some(tally.into_record(id, lab.name(), case, ready, down, error))
}
