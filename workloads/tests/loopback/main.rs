// SPDX-License-Identifier: Apache-2.0
//! The agents as the harness runs them, processes that talk JSON lines, over 127.0.0.0/8 only.
#![expect(clippy::unwrap_used, reason = "a test's functions fail by panicking, as the test does")]

mod agents;
mod certificates;
mod dns;
mod errors;
mod grpc;
mod ingress;
mod latency;
mod lines;
mod loops;
mod marks;
mod proxied;
mod rogue;
mod samples;
mod sockets;
mod tls;
mod tls_errors;
mod tls_wire;
mod websocket;
mod worker;
mod workload;
