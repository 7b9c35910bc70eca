// SPDX-License-Identifier: Apache-2.0
//! Latency counts from the intended start: whoever stalls, the requests that were due show it.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use workloads::protocol::{Arrival, LoadSpec, PhaseReport, Schedule};

use crate::agents::Load;
use crate::rogue::{Rogue, Talk, response};
use crate::workload::{above_ms, requests, spec};

const STALL_MS: u64 = 600;
/// Above this a request has felt the stall: far above what a busy machine adds to most requests.
const FELT_MS: u64 = 200;
const COUNT: u64 = 300;
const OPEN: Arrival =
    Arrival::Open { rate: 200.0, schedule: Schedule::Uniform, max_in_flight: 256 };
/// Requests that were due in the part of the stall that leaves each of them more than
/// [`FELT_MS`] to wait: 80; half of them, so that a late begin does not matter.
const FELT_MIN: u64 = (STALL_MS - FELT_MS) * 200 / 1000 / 2;

/// A server that does `stall` once, at its 50th request, while no other request is answered.
fn stalling_once(stall: impl Fn() + Send + Sync + 'static) -> Rogue {
    let (served, turn) = (AtomicU64::new(0), Mutex::new(()));
    Rogue::new(move |stream| {
        let mut talk = Talk::new(stream)?;
        loop {
            talk.request()?;
            let one_at_a_time = turn.lock().unwrap_or_else(PoisonError::into_inner);
            if served.fetch_add(1, Ordering::Relaxed) == 50 {
                stall();
            }
            drop(one_at_a_time);
            talk.respond(&response("200 OK", "0123456789"))?;
        }
    })
}

fn whole(report: PhaseReport) -> PhaseReport {
    assert_eq!((report.requests, report.errors.len()), (COUNT, 0), "{:?}", report.errors);
    report
}

#[test]
fn a_server_that_stalls_delays_every_request_that_is_due_meanwhile() {
    let stall = || std::thread::sleep(Duration::from_millis(STALL_MS));
    let rogue = stalling_once(stall);
    let open =
        whole(Load::new(&LoadSpec { arrival: OPEN, ..spec(rogue.at) }).run(&requests(COUNT)));
    let felt = above_ms(&open.latency, FELT_MS);
    assert!(felt >= FELT_MIN, "{felt} felt it");
    // They were sent on time: the wait is the server's.
    assert!(above_ms(&open.lateness, FELT_MS) < felt / 2);

    // A closed loop of one waits with the server and sees one slow request, by its definition.
    let rogue = stalling_once(stall);
    let arrival = Arrival::Closed { connections: 1 };
    let closed = whole(Load::new(&LoadSpec { arrival, ..spec(rogue.at) }).run(&requests(COUNT)));
    let felt_closed = above_ms(&closed.latency, FELT_MS);
    assert!((1..felt / 2).contains(&felt_closed), "{felt_closed} felt it");
}

#[test]
fn a_client_that_stalls_is_late_and_says_so_in_latency_and_not_in_service_time() {
    let client = Arc::new(AtomicI32::new(0));
    let pid = client.clone();
    let rogue = stalling_once(move || {
        let client = Pid::from_raw(pid.load(Ordering::Acquire));
        // The client's stall itself, as when its processor is taken away.
        kill(client, Signal::SIGSTOP).unwrap();
        std::thread::sleep(Duration::from_millis(STALL_MS));
        kill(client, Signal::SIGCONT).unwrap();
    });
    let mut load = Load::new(&LoadSpec { arrival: OPEN, ..spec(rogue.at) });
    client.store(load.0.pid().as_raw(), Ordering::Release);
    let report = whole(load.run(&requests(COUNT)));

    let felt = above_ms(&report.latency, FELT_MS);
    assert!(felt >= FELT_MIN, "{felt} felt it");
    assert!(above_ms(&report.lateness, FELT_MS) >= FELT_MIN);
    // Only what was in flight when the client stopped took long by itself.
    let slow = above_ms(&report.service_time, FELT_MS);
    assert!(slow < felt / 2, "{slow} of {felt}");
}
