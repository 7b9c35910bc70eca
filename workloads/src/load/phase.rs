// SPDX-License-Identifier: Apache-2.0
//! One phase: connections first, then the clock, the slots at work, and the report.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_local};

use super::arrivals::Arrivals;
use super::exchange::{Answered, Template};
use super::failure::Failure;
use super::link::{Link, Opening, Way};
use super::memory::peak_rss_bytes;
use super::resolve::Resolver;
use super::slot::{self, Slot};
use super::spec;
use super::tally::Tally;
use super::tls::Tls;
use super::tuples::Tuples;
use crate::clock::{cpu_ns, now_ns};
use crate::protocol::{Arrival, Connection, LoadCommand, LoadSpec, PhaseReport};
use crate::timer::Timer;

const NS_PER_MS: u64 = 1_000_000;
/// Connections opened at once before the clock starts: well below any listener's backlog.
const OPENING: usize = 64;
/// Longest time between two looks at the deadlines, milliseconds.
const SWEEP_MS_MAX: u64 = 20;

/// A phase under way. Shared by its slots, all on one thread.
#[derive(Debug)]
pub(super) struct Phase {
    pub(super) spec: Rc<LoadSpec>,
    pub(super) template: Rc<Template>,
    pub(super) slots: Vec<Slot>,
    pub(super) start_ns: Cell<u64>,
    pub(super) timeout_ns: u64,
    end_ns: Cell<u64>,
    duration_ns: u64,
    resolver: Option<Rc<Resolver>>,
    tls: Option<Rc<Tls>>,
    tuples: Rc<RefCell<Tuples>>,
    tally: RefCell<Tally>,
    /// Requests that may still start.
    starts_left: Cell<u64>,
    /// Slots of an open loop without a request, the longest idle first: connections take turns.
    idle: RefCell<VecDeque<usize>>,
    over: Cell<bool>,
    opened: Cell<u64>,
    sample_every: u32,
}

impl Phase {
    pub(super) fn new(
        spec: &Rc<LoadSpec>,
        template: &Rc<Template>,
        resolver: &Option<Rc<Resolver>>,
        tls: &Option<Rc<Tls>>,
        tuples: &Rc<RefCell<Tuples>>,
        command: &LoadCommand,
    ) -> Rc<Self> {
        let LoadCommand::Run { duration_ms, max_requests, sample_every, max_samples } = *command;
        let slots = spec::slots(spec.arrival) as usize;
        Rc::new(Self {
            spec: spec.clone(),
            template: template.clone(),
            slots: (0..slots).map(|_| Slot::default()).collect(),
            start_ns: Cell::default(),
            timeout_ns: spec.timeout_ms * NS_PER_MS,
            end_ns: Cell::default(),
            duration_ns: duration_ms * NS_PER_MS,
            resolver: resolver.clone(),
            tls: tls.clone(),
            tuples: tuples.clone(),
            tally: RefCell::new(Tally::new(max_samples)),
            starts_left: Cell::new(max_requests.unwrap_or(u64::MAX)),
            idle: RefCell::new(VecDeque::with_capacity(slots)),
            over: Cell::new(false),
            opened: Cell::new(0),
            sample_every,
        })
    }

    /// Runs the phase to its end; returns when it started, too. With `at_ns` the clock starts no
    /// sooner than then, once the connections are open.
    pub(super) async fn run(
        self: Rc<Self>,
        seed: u64,
        at_ns: Option<u64>,
    ) -> io::Result<(PhaseReport, u64)> {
        let (timer, sweeper) = (Timer::new()?, Timer::new()?);
        let cpu_before_ns = cpu_ns();
        let spent_before = self.tuples.borrow().spent();
        self.have_sessions().await;
        let links = self.open_ahead().await;
        if let Some(at_ns) = at_ns {
            timer.until(at_ns).await?;
        }

        self.start_clock();
        let workers: Vec<_> = links
            .into_iter()
            .enumerate()
            .map(|(index, link)| spawn_local(slot::work(self.clone(), index, link)))
            .collect();
        if let Arrival::Open { .. } = self.spec.arrival {
            // An arrival that finds its slot not yet in line would count as overload. Each slot
            // is in line after its first poll, and none leaves before the first arrival.
            while self.idle.borrow().len() < self.slots.len() {
                tokio::task::yield_now().await;
            }
            self.start_clock();
        }
        tokio::select! {
            paced = self.work_off(workers, &timer, seed) => paced?,
            swept = self.sweep(&sweeper) => match swept? {}
        }

        let phase = Rc::into_inner(self).expect("every slot's loop has ended");
        let tuples = phase.tuples.borrow();
        let resolver = phase.resolver.as_deref();
        let report = PhaseReport {
            tuples_spent: tuples.spent() - spent_before,
            tuples_left: resolver.map_or(u64::MAX, Resolver::left).min(tuples.left()),
            queries: resolver.map(Resolver::take_queries).unwrap_or_default(),
            cpu_ns: cpu_ns() - cpu_before_ns,
            peak_rss_bytes: peak_rss_bytes()?,
            ..phase.tally.into_inner().report()
        };
        Ok((report, phase.start_ns.get()))
    }

    fn start_clock(&self) {
        self.start_ns.set(now_ns());
        self.end_ns.set(self.start_ns.get() + self.duration_ns);
    }

    /// Has the server give out sessions enough for all connections that may resume one at once. A
    /// ticket comes with the answer to a request; what goes wrong is counted, and the connections
    /// that want for a session shake hands in full.
    async fn have_sessions(&self) {
        let Some(tls) = &self.tls else { return };
        for _ in 0..self.slots.len() {
            if !tls.wants_session(self.slots.len()) {
                break;
            }
            let opening = Cell::default();
            let asking = async {
                let way = Way { resolver: None, ..self.way() };
                let mut link = Link::open(way, false, &opening).await?;
                link.exchange(&self.template).await.and_then(|answered| answered.verdict)
            };
            if let Err(failure) = self.in_time(asking, &opening).await {
                self.failed(failure, now_ns());
                break;
            }
        }
    }

    /// Awaits what is done on a new connection before the clock starts, for as long as a request may
    /// take.
    async fn in_time<T>(
        &self,
        opened: impl Future<Output = Result<T, Failure>>,
        opening: &Cell<Opening>,
    ) -> Result<T, Failure> {
        tokio::select! {
            opened = opened => opened,
            waited = rest(Duration::from_nanos(self.timeout_ns)) => {
                Err(waited.map_or(Failure::Other, |()| self.late(opening.get())))
            }
        }
    }

    /// What it is called when a connection is not there in time.
    pub(super) fn late(&self, opening: Opening) -> Failure {
        match opening {
            Opening::Resolving => Failure::DnsTimeout,
            Opening::Upgrading => Failure::WsTimeout,
            Opening::Connected if self.tls.is_some() => Failure::TlsTimeout,
            Opening::Connecting | Opening::Connected => Failure::ConnectTimeout,
        }
    }

    /// Opens the connections of a keepalive phase, or none. One that cannot be opened is counted
    /// as a failure, and its slot tries again with its first request.
    async fn open_ahead(self: &Rc<Self>) -> Vec<Option<Link>> {
        let mut links = Vec::with_capacity(self.slots.len());
        if self.spec.connection == Connection::Newconn {
            links.resize_with(self.slots.len(), || None);
        }
        while links.len() < self.slots.len() {
            let batch = OPENING.min(self.slots.len() - links.len());
            let opening: Vec<_> = (0..batch)
                .map(|_| {
                    let phase = self.clone();
                    spawn_local(async move { phase.open_one_ahead().await })
                })
                .collect();
            for opened in opening {
                links.push(join(opened).await);
            }
        }
        links
    }

    async fn open_one_ahead(&self) -> Option<Link> {
        let opening = Cell::default();
        let opened = async {
            let mut link = self.open(&opening).await?;
            // The first request is then not mixed with the two sides' SETTINGS.
            if self.spec.protocol.is_http2() {
                link.greeted().await;
            }
            let open = link.settle().await;
            if open { Ok(link) } else { Err(link.end()) }
        };
        let opened = self.in_time(opened, &opening).await;
        opened.map_err(|failure| self.failed(failure, now_ns())).ok()
    }

    fn way(&self) -> Way<'_> {
        let LoadSpec { target, protocol, .. } = *self.spec;
        let (resolver, tls) = (self.resolver.as_deref(), self.tls.as_deref());
        Way { target, protocol, template: &self.template, resolver, tls, tuples: &self.tuples }
    }

    /// Opens one connection; `opening` tells how far it came.
    pub(super) async fn open(&self, opening: &Cell<Opening>) -> Result<Link, Failure> {
        let number = self.opened.get();
        self.opened.set(number + 1);
        let sampled = self.sample_every > 0 && number.is_multiple_of(u64::from(self.sample_every));
        let link = Link::open(self.way(), sampled, opening).await?;
        self.tally.borrow_mut().opened(&link);
        Ok(link)
    }

    /// Sends the arrivals of an open loop to the slots, then waits for all slots to end.
    async fn work_off(
        &self,
        workers: Vec<JoinHandle<()>>,
        timer: &Timer,
        seed: u64,
    ) -> io::Result<()> {
        if let Arrival::Open { rate, schedule, .. } = self.spec.arrival {
            for intended_ns in Arrivals::new(self.start_ns.get(), rate, schedule, seed) {
                // The wait ends at the phase's end, even if the next arrival is a day away.
                timer.until(intended_ns.min(self.end_ns.get())).await?;
                if !self.take_start(intended_ns) {
                    break;
                }
                self.dispatch(intended_ns);
            }
            self.stop();
        }
        for worker in workers {
            join(worker).await;
        }
        Ok(())
    }

    /// Hands a due request to the slot that has been idle longest.
    fn dispatch(&self, intended_ns: u64) {
        match self.idle.borrow_mut().pop_front() {
            Some(index) => {
                self.slots[index].due_ns.set(Some(intended_ns));
                self.slots[index].wake();
            }
            None => self.failed(Failure::Overload, now_ns()),
        }
    }

    /// Gives up attempts whose time is over, for ever. One timer for all of them: a timeout is
    /// late by a fiftieth of itself at most, or 20 ms, or 1 ms.
    async fn sweep(&self, timer: &Timer) -> io::Result<Infallible> {
        let period_ms = (self.spec.timeout_ms / 50).clamp(1, SWEEP_MS_MAX);
        loop {
            timer.rest(Duration::from_millis(period_ms)).await?;
            let now_ns = now_ns();
            self.slots.iter().for_each(|slot| slot.sweep(now_ns));
        }
    }

    /// Takes the right to start a request at `intended_ns`; false when the phase is over.
    pub(super) fn take_start(&self, intended_ns: u64) -> bool {
        let left = self.starts_left.get();
        if self.over.get() || left == 0 || intended_ns >= self.end_ns.get() {
            return false;
        }
        self.starts_left.set(left - 1);
        self.tally.borrow_mut().intended(intended_ns);
        true
    }

    /// Puts a slot in line for the next arrival.
    pub(super) fn await_start(&self, index: usize) {
        self.idle.borrow_mut().push_back(index);
    }

    /// Whether no request starts any more.
    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    fn stop(&self) {
        self.over.set(true);
        self.slots.iter().for_each(Slot::wake);
    }

    /// Records a request that was answered as asked.
    pub(super) fn answered(&self, intended_ns: u64, link: &Link, fresh: bool, with: &Answered) {
        self.tally.borrow_mut().answered(intended_ns, link, fresh, with);
    }

    /// Counts a failure. Without tuples nothing can be opened any more, and the phase stops.
    pub(super) fn failed(&self, failure: Failure, at_ns: u64) {
        self.tally.borrow_mut().failed(failure, at_ns);
        if failure == Failure::TuplesExhausted {
            self.stop();
        }
    }
}

/// Waits that long, by a timer of its own.
pub(super) async fn rest(duration: Duration) -> io::Result<()> {
    Timer::new()?.rest(duration).await
}

/// Awaits a task of ours; none is ever cancelled, so what it fails with is its own panic.
async fn join<T>(task: JoinHandle<T>) -> T {
    match task.await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
