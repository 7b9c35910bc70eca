// SPDX-License-Identifier: Apache-2.0
//! What a spec may say. A spec that could not do what it says is refused before the first phase.

use std::net::{SocketAddr, TcpListener};

use crate::agent::{AgentError, open_file_limit};
use crate::protocol::{Arrival, Connection, LoadCommand, LoadSpec, WORK_MAX_NS};

/// Fastest schedule, requests per second: ten times what one thread can send.
const RATE_MAX: f64 = 1_000_000.0;
/// Longest wait for an answer, milliseconds: half of what a histogram can hold.
const TIMEOUT_MS_MAX: u64 = 60_000;
/// Longest phase, milliseconds: an hour.
const DURATION_MS_MAX: u64 = 3_600_000;
/// Files the agent has open besides its connections.
const OTHER_FILES: u64 = 32;

/// Slots of a spec: requests that can be in flight at once.
pub(super) fn slots(arrival: Arrival) -> u32 {
    match arrival {
        Arrival::Closed { connections } => connections,
        Arrival::Open { max_in_flight, .. } => max_in_flight,
    }
}

/// Refuses a spec that is out of range or cannot run on this host.
pub(super) fn check(spec: &LoadSpec) -> Result<(), AgentError> {
    let refuse = |problem: String| Err(AgentError::Value { what: "load spec", problem });
    if let Arrival::Open { rate, .. } = spec.arrival
        && !(rate > 0.0 && rate <= RATE_MAX)
    {
        return refuse(format!("`rate` is {rate}, not above 0 and at most {RATE_MAX} per second"));
    }
    let slots = slots(spec.arrival);
    // A connection that is being resolved has a socket for that, too.
    let each = if spec.resolve.is_some() { 2 } else { 1 };
    let limit = open_file_limit()?.saturating_sub(OTHER_FILES) / each;
    if slots == 0 || u64::from(slots) > limit {
        return refuse(format!(
            "{slots} concurrent connections are not between 1 and {limit}, the limit of open files (`ulimit -Hn`) allows no more"
        ));
    }
    for (key, bytes) in
        [("request_bytes", spec.request_bytes), ("response_bytes", spec.response_bytes)]
    {
        let most = spec.protocol.body_bytes_max();
        if bytes > most {
            return refuse(format!("`{key}` is {bytes}, not at most {most}"));
        }
    }
    if let Some(host) = &spec.host
        && host.parse::<hyper::http::uri::Authority>().is_err()
    {
        return refuse(format!("`host` is `{host}`, which is no host"));
    }
    if spec.server_work_ns > WORK_MAX_NS {
        let work_ns = spec.server_work_ns;
        return refuse(format!("`server_work_ns` is {work_ns}, not at most {WORK_MAX_NS}"));
    }
    if spec.tls.as_ref().is_some_and(|tls| tls.resume) && spec.connection == Connection::Keepalive {
        return refuse(
            "`tls.resume` is of new connections, and `connection` is keepalive".to_owned(),
        );
    }
    if spec.resolve.is_some() && spec.connection == Connection::Keepalive {
        return refuse("`resolve` is of new connections, and `connection` is keepalive".to_owned());
    }
    if !(1..=TIMEOUT_MS_MAX).contains(&spec.timeout_ms) {
        let timeout_ms = spec.timeout_ms;
        return refuse(format!("`timeout_ms` is {timeout_ms}, not in 1 to {TIMEOUT_MS_MAX}"));
    }
    let (first, last) = (spec.sources.port_first, spec.sources.port_last);
    if first == 0 || first > last {
        return refuse(format!("`port_first` is {first} and `port_last` {last}: no port range"));
    }
    if spec.sources.addresses.is_empty() {
        return refuse("`sources.addresses` is empty".to_owned());
    }
    for &address in &spec.sources.addresses {
        if let Err(error) = TcpListener::bind(SocketAddr::new(address, 0)) {
            return refuse(format!("source address {address} cannot be used here: {error}"));
        }
    }
    Ok(())
}

/// Refuses a command that is out of range.
pub(super) fn check_command(command: &LoadCommand) -> Result<(), AgentError> {
    let LoadCommand::Run { duration_ms, .. } = command;
    if !(1..=DURATION_MS_MAX).contains(duration_ms) {
        return Err(AgentError::Value {
            what: "load command",
            problem: format!("`duration_ms` is {duration_ms}, not in 1 to {DURATION_MS_MAX}"),
        });
    }
    Ok(())
}
