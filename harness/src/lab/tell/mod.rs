// SPDX-License-Identifier: Apache-2.0
//! From what was seen of one request to a walk that a person can read.

mod objects;
mod words;

use record::{Leg, MatchedRule, Place, QueryWalk, Walk, WalkStep};

use crate::capture::join::{Opening, Passage, QUERY_PREFIX, QueryStory, Story};
use crate::capture::packet::{Direction, flags};
use crate::capture::{Segment, Site, TapInfo};
use crate::proxy::Matched;

/// What a walk is told with besides its story.
#[derive(Debug)]
pub(super) struct Teller<'a> {
    /// Case's id.
    pub(super) case: &'a str,
    /// Why the walk is kept: `trace` or `slowest`.
    pub(super) kept: &'a str,
    /// Capture engine.
    pub(super) engine: &'a str,
    /// The probes, by index.
    pub(super) probes: &'a [TapInfo],
    /// Host that the request starts on.
    pub(super) client: &'a str,
    /// Pod that answered: name and address.
    pub(super) pod: (&'a str, String),
    /// Node that requests enter.
    pub(super) entry: &'a str,
    /// Where the client connected to.
    pub(super) destination: String,
}

/// What a segment of a TLS handshake is to a reader.
const HANDSHAKE: &str = "TLS";
/// The same of an upgrade.
const UPGRADE: &str = "upgrade";
/// The same of a message to the server of names, and of one from there.
const QUERY: &str = "query";
const ANSWER: &str = "answer";

/// A step and what it is ordered by.
struct Timed {
    time_ns: u64,
    step: WalkStep,
}

impl Teller<'_> {
    /// The walk of a story.
    pub(super) fn walk(&self, story: &Story) -> Walk {
        let mut timed = self.calls(story);
        timed.extend(story.passages.iter().filter_map(|passage| self.passage(passage)));
        // Stable: of two at the same nanosecond the call comes first, being there before.
        timed.sort_by_key(|timed| timed.time_ns);
        let start_ns = timed.first().map_or(0, |first| first.time_ns);
        let last_ns = timed.last().map_or(start_ns, |last| last.time_ns);
        let steps = since(timed, start_ns);
        let (name, address) = &self.pod;
        Walk {
            case: self.case.to_owned(),
            kept: self.kept.to_owned(),
            engine: self.engine.to_owned(),
            client: story.sample.client.to_string(),
            destination: self.destination.clone(),
            backend: format!("{name} {address}"),
            total_ns: last_ns - start_ns,
            steps,
            queries: Vec::new(),
            rules_walked: None,
            conntrack: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The queries for names before a request, of whose story they are; `names` are those that were tried.
    pub(super) fn queries(
        &self,
        story: &Story,
        queries: &[QueryStory],
        names: &[String],
    ) -> Vec<QueryWalk> {
        let Some(start_ns) = story.sample.resolve_ns else { return Vec::new() };
        let told = queries.iter().filter_map(|query| {
            let call = |time_ns, leg, packet, stage, name| Timed {
                time_ns,
                step: call(leg, packet, stage, self.client, name),
            };
            let stage = query_stage("client_rx");
            let mut timed = vec![
                call(query.sent_ns, Leg::Request, QUERY, "", "query sent"),
                call(query.answered_ns, Leg::Response, ANSWER, &stage, "answer read"),
            ];
            timed.extend(query.passages.iter().filter_map(|passage| {
                let Timed { time_ns, step } = self.passage(passage)?;
                let stage = passage.stage.map(query_stage).unwrap_or_default();
                Some(Timed { time_ns, step: WalkStep { stage, ..step } })
            }));
            // Of two at the same nanosecond the answer's being read comes last.
            timed.sort_by_key(|timed| (timed.time_ns, timed.step.name == "answer read"));
            Some(QueryWalk {
                name: names.get(query.name)?.clone(),
                kind: query.kind.to_owned(),
                answer: query.answer.to_string(),
                total_ns: query.answered_ns - query.sent_ns,
                steps: since(timed, start_ns),
            })
        });
        let mut told: Vec<_> = told.collect();
        told.sort_by_key(|query| query.steps[0].at_ns);
        told
    }

    /// What client and server did and when, by their own clocks.
    fn calls(&self, story: &Story) -> Vec<Timed> {
        let sample = &story.sample;
        let (there, back) = (Leg::Request, Leg::Response);
        let mut calls = Vec::new();
        let mut call = |time_ns, leg, packet: &str, stage: &str, host: &str, name: &str| {
            calls.push(Timed { time_ns, step: call(leg, packet, stage, host, name) });
        };
        if let Some(resolve_ns) = sample.resolve_ns {
            call(resolve_ns, there, "connect", "", self.client, "resolving");
        }
        if let (Some(connect_ns), Some(connected_ns)) = (sample.connect_ns, sample.connected_ns) {
            let stage = if sample.resolve_ns.is_some() { "dns" } else { "" };
            call(connect_ns, there, "connect", stage, self.client, "connect called");
            call(connected_ns, back, "connect", "connect", self.client, "connected");
        }
        if let Some(secured_ns) = sample.secured_ns {
            call(secured_ns, back, HANDSHAKE, "tls", self.client, "secured");
        }
        if let Some(upgraded_ns) = sample.upgraded_ns {
            call(upgraded_ns, back, UPGRADE, "upgrade", self.client, "upgraded");
        }
        let stage = if sample.connect_ns.is_some() { "handover" } else { "" };
        call(sample.sent_ns, there, "request", stage, self.client, "request written");
        if let Some(mark) = &story.mark {
            call(mark.read_ns, there, "request", "wakeup", self.pod.0, "request read");
            if mark.received_ns > mark.read_ns {
                let pod = self.pod.0;
                call(mark.received_ns, there, "request", "upload", pod, "whole request read");
            }
            call(mark.written_ns, back, "response", "app", self.pod.0, "response written");
        }
        // Behind the request, which may have come in the same read.
        if let Some(accepted) = story.mark.as_ref().and_then(|mark| mark.handshake) {
            let pod = self.pod.0;
            call(accepted.accepted_ns, there, "connect", "", pod, "accepted");
            for turn in accepted.turns.iter().flatten() {
                // The client waits for the first ones only: tickets come beside the request.
                let waited = sample.secured_ns.is_some_and(|secured| turn.written_ns <= secured);
                let stage = if waited { "tls" } else { "" };
                call(turn.read_ns, there, HANDSHAKE, stage, pod, "handshake read");
                call(turn.written_ns, back, HANDSHAKE, "pod_tls", pod, "handshake answered");
            }
            call(accepted.secured_ns, there, HANDSHAKE, "pod_tls", pod, "handshake over");
        }
        call(sample.first_byte_ns, back, "response", "client_rx", self.client, "first byte read");
        call(sample.last_byte_ns, back, "response", "body", self.client, "last byte read");
        calls
    }

    fn passage(&self, passage: &Passage) -> Option<Timed> {
        let probe = self.probes.get(usize::from(passage.tap))?;
        let Segment { src, dst, encapsulated, .. } = passage.segment;
        let packet = match passage.opening {
            Some(Opening::Handshake) => HANDSHAKE,
            Some(Opening::Upgrade) => UPGRADE,
            None => packet(&passage.segment, passage.leg),
        };
        // Stages are of the request and the response; what opens a connection has none.
        let staged = packet == "request" || packet == "response";
        let place = match probe.site {
            site if site.is_device() => Place::Device,
            Site::Readable => Place::Socket,
            _ => Place::Hook,
        };
        let step = WalkStep {
            at_ns: 0,
            since_ns: 0,
            leg: passage.leg,
            packet: packet.to_owned(),
            stage: passage.stage.filter(|_| staged).unwrap_or_default().to_owned(),
            host: probe.host().to_owned(),
            place,
            name: name(probe),
            source: Some(src.to_string()),
            destination: Some(dst.to_string()),
            encapsulated,
            words: words::passage(probe.site, passage.direction, passage.leg, encapsulated),
            objects: objects::of(probe, &passage.segment),
            rules: Vec::new(),
        };
        Some(Timed { time_ns: passage.time_ns, step })
    }

    /// Puts the rules that the first packet met where it met them, on the entry node.
    pub(super) fn add_rules(&self, walk: &mut Walk, matched: Matched) {
        walk.rules_walked = Some(matched.walked);
        let mut elsewhere = Vec::new();
        for rule in matched.rules {
            match self.step_behind(walk, &rule) {
                Some(index) => walk.steps[index].rules.push(rule),
                None => elsewhere.push(rule),
            }
        }
        for MatchedRule { hook, table, chain, text, .. } in elsewhere {
            walk.notes.push(format!("matched where no probe was: {hook} {table} {chain}: {text}"));
        }
        if let Some(endpoint) = matched.endpoint {
            walk.notes.push(format!("endpoint chosen: {endpoint}"));
        }
        walk.notes
            .extend(matched.objects.into_iter().map(|object| format!("{}: {object}", self.entry)));
    }

    /// The step of the first packet that a rule was met before.
    fn step_behind(&self, walk: &Walk, rule: &MatchedRule) -> Option<usize> {
        let of_first = |step: &&WalkStep| step.packet == "SYN" && step.host == self.entry;
        let behind = match rule.hook.as_str() {
            "PREROUTING" => Site::Translated,
            // What INPUT lets through goes up, and down again by OUTPUT.
            "INPUT" => Site::LocalOut,
            "FORWARD" | "OUTPUT" => Site::Postrouting,
            "POSTROUTING" => Site::Masqueraded,
            _ => Site::Nic,
        };
        let named = |step: &&WalkStep| step.name == behind.word();
        let at_hook = walk.steps.iter().position(|step| of_first(&step) && named(&step));
        // Without a probe at the hook: where the packet is seen next, when it leaves the node.
        let leaves = |step: &WalkStep| of_first(&step) && step.name.ends_with(" out");
        at_hook.or_else(|| walk.steps.iter().position(leaves))
    }
}

/// Steps in the order of time, of a walk that began at `start_ns`.
fn since(timed: Vec<Timed>, start_ns: u64) -> Vec<WalkStep> {
    let mut last_ns = timed.first().map_or(start_ns, |first| first.time_ns);
    let step = |Timed { time_ns, step }: Timed| {
        let since_ns = time_ns - std::mem::replace(&mut last_ns, time_ns);
        WalkStep { at_ns: time_ns - start_ns, since_ns, ..step }
    };
    timed.into_iter().map(step).collect()
}

/// A call of client or server, still without its times.
fn call(leg: Leg, packet: &str, stage: &str, host: &str, name: &str) -> WalkStep {
    WalkStep {
        at_ns: 0,
        since_ns: 0,
        leg,
        packet: packet.to_owned(),
        stage: stage.to_owned(),
        host: host.to_owned(),
        place: Place::Call,
        name: name.to_owned(),
        source: None,
        destination: None,
        encapsulated: false,
        words: words::call(name).to_owned(),
        objects: Vec::new(),
        rules: Vec::new(),
    }
}

/// A stage of a query by its name in records.
fn query_stage(stage: &str) -> String {
    format!("{QUERY_PREFIX}{stage}")
}

/// What a segment is to a reader.
fn packet(segment: &Segment, leg: Leg) -> &'static str {
    if let Some(names) = segment.names {
        return if names.answers { ANSWER } else { QUERY };
    }
    match (segment.has(flags::SYN), segment.has(flags::ACK), leg) {
        (true, false, _) => "SYN",
        (true, true, _) => "SYN-ACK",
        _ if segment.has(flags::RST) => "RST",
        _ if segment.payload_bytes > 0 && leg == Leg::Request => "request",
        _ if segment.payload_bytes > 0 => "response",
        _ if segment.has(flags::FIN) => "FIN",
        _ => "ACK",
    }
}

/// The probe's name on its host: `eth0 in`, `FORWARD`.
fn name(probe: &TapInfo) -> String {
    let place = probe.name.split_once('/').map_or(&*probe.name, |(_, place)| place);
    match probe.direction {
        Some(Direction::In) if probe.site.is_device() => format!("{place} in"),
        Some(Direction::Out) if probe.site.is_device() => format!("{place} out"),
        _ => place.to_owned(),
    }
}
