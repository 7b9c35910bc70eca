// SPDX-License-Identifier: Apache-2.0
//! Walks as a trace in the Chrome JSON format, which ui.perfetto.dev and chrome://tracing open: a
//! process for each host, a thread for each device and each kind of place, a slice from step to
//! step on the thread where it ends, and an arrow along each packet from host to host.
//!
//! Format: "Trace Event Format", Google, revised 2016. Slices of one thread must not overlap, so
//! that several walks stand one behind the other, each on a clock of its own in its arguments.

use std::collections::BTreeMap;

use record::{MatchedRule, Place, QueryWalk, Walk};
use serde_json::{Map, Value, json};

use crate::analysis::number::one_line;
use crate::analysis::walk::{End, Seen, query_steps, question, rule_place, sections};

/// The process that holds whole requests.
const REQUESTS: &str = "requests";

/// The walks as one JSON object: `traceEvents`, with times in microseconds.
pub fn perfetto(walks: &[Walk]) -> String {
    let mut trace = Trace::default();
    let mut start_ns = 0;
    for (place, walk) in walks.iter().enumerate() {
        trace.walk(place + 1, walk, start_ns);
        let end_ns = walk.steps.last().map_or(0, |step| step.at_ns).max(walk.total_ns);
        // A gap of a tenth keeps neighbours apart when looked at from afar.
        start_ns += end_ns + end_ns / 10 + 1000;
    }
    let mut events = trace.names();
    events.append(&mut trace.events);
    json!({ "displayTimeUnit": "ns", "traceEvents": events }).to_string()
}

/// A thread of the trace.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Track {
    pid: usize,
    tid: usize,
}

/// A slice that an arrow may begin, pass or end at.
struct Stop {
    at_ns: u64,
    track: Track,
}

#[derive(Default)]
struct Trace {
    /// Processes by number, each with its threads.
    hosts: Vec<(String, Vec<String>)>,
    events: Vec<Value>,
    flows: usize,
}

impl Trace {
    fn walk(&mut self, number: usize, walk: &Walk, start_ns: u64) {
        let whole = self.track(REQUESTS, "requests");
        let about = json!({
            "walk": number, "case": walk.case, "kept": walk.kept, "engine": walk.engine,
            "client": walk.client, "destination": walk.destination, "backend": walk.backend,
            "rules_walked": walk.rules_walked, "conntrack": walk.conntrack, "notes": walk.notes,
        });
        self.slice(whole, "request", &walk.case, start_ns, walk.total_ns, about);
        let steps: Vec<Seen<'_>> = sections(walk).into_iter().flat_map(|s| s.steps).collect();
        let mut packets: BTreeMap<_, Vec<Stop>> = BTreeMap::new();
        for seen in &steps {
            let step = seen.step;
            let track = self.track(&step.host, &thread(step.place, &step.name));
            let at_ns = start_ns + step.at_ns.saturating_sub(step.since_ns);
            let name = if step.stage.is_empty() { &step.name } else { &step.stage };
            if seen.number == 1 {
                let mark = json!({
                    "name": one_line(&step.name), "cat": "step", "ph": "i", "s": "t",
                    "ts": us(at_ns), "pid": track.pid, "tid": track.tid, "args": args(number, seen),
                });
                self.events.push(mark);
            } else {
                self.slice(track, "stage", name, at_ns, step.since_ns, args(number, seen));
            }
            // An arrow holds on to the slice that is open at its time: an empty one never is.
            if step.since_ns > 0 && step.place != Place::Call {
                let packet = (step.leg, step.packet.as_str());
                packets.entry(packet).or_default().push(Stop { at_ns, track });
            }
        }
        let seen_ns = steps.last().map_or(0, |seen| seen.step.at_ns);
        if let Some(rest_ns) = walk.total_ns.checked_sub(seen_ns).filter(|&ns| ns > 0) {
            let args = json!({ "walk": number, "words": "no probe saw what the client did here" });
            self.slice(whole, "stage", "not seen", start_ns + seen_ns, rest_ns, args);
        }
        for ((_, packet), stops) in packets {
            self.flow(packet, &stops);
        }
        for query in &walk.queries {
            self.query(number, query, start_ns);
        }
    }

    /// A query on threads of its kind: two are under way at a time, one of each.
    fn query(&mut self, number: usize, query: &QueryWalk, start_ns: u64) {
        let QueryWalk { name, kind, answer, .. } = query;
        let thread = format!("queries {kind}");
        let (whole, steps) = (self.track(REQUESTS, &thread), query_steps(query));
        let Some(first) = steps.first() else { return };
        let about = json!({ "walk": number, "name": name, "kind": kind, "answer": answer });
        let at_ns = start_ns + first.step.at_ns;
        self.slice(whole, "query", &question(query), at_ns, query.total_ns, about);
        let mut ways: BTreeMap<_, Vec<Stop>> = BTreeMap::new();
        for seen in &steps[1..] {
            let step = seen.step;
            let track = self.track(&step.host, &thread);
            let at_ns = start_ns + step.at_ns.saturating_sub(step.since_ns);
            let name = if step.stage.is_empty() { &step.name } else { &step.stage };
            self.slice(track, "query stage", name, at_ns, step.since_ns, args(number, seen));
            if step.since_ns > 0 && step.place != Place::Call {
                ways.entry((step.leg, &*step.packet)).or_default().push(Stop { at_ns, track });
            }
        }
        for ((_, packet), stops) in ways {
            self.flow(packet, &stops);
        }
    }

    fn track(&mut self, host: &str, thread: &str) -> Track {
        let process = self.hosts.iter().position(|(name, _)| name == host);
        let process = process.unwrap_or_else(|| {
            self.hosts.push((host.to_owned(), Vec::new()));
            self.hosts.len() - 1
        });
        let threads = &mut self.hosts[process].1;
        let known = threads.iter().position(|name| name == thread);
        let known = known.unwrap_or_else(|| {
            threads.push(thread.to_owned());
            threads.len() - 1
        });
        // Zero is the idle process to some viewers.
        Track { pid: process + 1, tid: known + 1 }
    }

    fn slice(&mut self, on: Track, cat: &str, name: &str, at_ns: u64, ns: u64, args: Value) {
        self.events.push(json!({
            "name": one_line(name), "cat": cat, "ph": "X", "ts": us(at_ns), "dur": us(ns),
            "pid": on.pid, "tid": on.tid, "args": args,
        }));
    }

    /// An arrow from the slice a packet is first seen in over those next to a change of hosts to the
    /// one it is last seen in.
    fn flow(&mut self, packet: &str, stops: &[Stop]) {
        let last = stops.len().saturating_sub(1);
        let on_way: Vec<&Stop> = (0..stops.len())
            .filter(|&at| {
                let other = |next: usize| stops[next].track.pid != stops[at].track.pid;
                at == 0 || at == last || other(at - 1) || other(at + 1)
            })
            .map(|at| &stops[at])
            .collect();
        if on_way.len() < 2 {
            return;
        }
        self.flows += 1;
        for (place, stop) in on_way.iter().enumerate() {
            let end = place + 1 == on_way.len();
            let mut event = json!({
                "name": one_line(packet), "cat": "packet", "id": self.flows,
                "ph": if place == 0 { "s" } else if end { "f" } else { "t" },
                "ts": us(stop.at_ns), "pid": stop.track.pid, "tid": stop.track.tid,
            });
            if end {
                event["bp"] = json!("e");
            }
            self.events.push(event);
        }
    }

    /// Names of processes and threads, in the order in which requests come to them.
    fn names(&self) -> Vec<Value> {
        let mut events = Vec::new();
        let mut name = |what: &str, pid: usize, tid: usize, args: Value| {
            let event = json!({
                "name": what, "cat": "__metadata", "ph": "M", "ts": 0, "pid": pid, "tid": tid, "args": args,
            });
            events.push(event);
        };
        for (host, (host_name, threads)) in self.hosts.iter().enumerate() {
            let pid = host + 1;
            name("process_name", pid, 0, json!({ "name": one_line(host_name) }));
            name("process_sort_index", pid, 0, json!({ "sort_index": host }));
            for (thread, thread_name) in threads.iter().enumerate() {
                let tid = thread + 1;
                name("thread_name", pid, tid, json!({ "name": one_line(thread_name) }));
                name("thread_sort_index", pid, tid, json!({ "sort_index": thread }));
            }
        }
        events
    }
}

/// Thread of a place: the device by its name, anything else by its kind.
fn thread(place: Place, name: &str) -> String {
    match place {
        Place::Call => "calls".to_owned(),
        Place::Hook => "netfilter hooks".to_owned(),
        Place::Socket => "sockets".to_owned(),
        Place::Device => {
            let device = name.strip_suffix(" in").or_else(|| name.strip_suffix(" out"));
            format!("device {}", device.unwrap_or(name))
        }
    }
}

fn args(walk: usize, seen: &Seen<'_>) -> Value {
    let step = seen.step;
    let mut args = Map::new();
    let mut say = |key: &str, value: Value| drop(args.insert(key.to_owned(), value));
    say("walk", json!(walk));
    say("step", json!(seen.number));
    say("at_us", us(step.at_ns));
    say("place", json!(step.name));
    say("packet", json!(step.packet));
    say("leg", json!(step.leg));
    for (key, was, end) in [
        ("source", "source_before", seen.source),
        ("destination", "destination_before", seen.destination),
    ] {
        if let Some(End { before, now }) = end {
            say(key, json!(now));
            if let Some(before) = before {
                say(was, json!(before));
            }
        }
    }
    if step.encapsulated {
        say("encapsulated", json!(true));
    }
    say("words", json!(step.words));
    if !step.objects.is_empty() {
        say("objects", json!(step.objects));
    }
    if !step.rules.is_empty() {
        let rule = |rule: &MatchedRule| format!("{}: {}", rule_place(rule), rule.text);
        say("rules", json!(step.rules.iter().map(rule).collect::<Vec<_>>()));
    }
    Value::Object(args)
}

/// Microseconds, the format's unit, to the nanosecond.
fn us(ns: u64) -> Value {
    json!(ns as f64 / 1000.0)
}
