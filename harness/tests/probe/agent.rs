// SPDX-License-Identifier: Apache-2.0
//! The program with the probes on its own, for its tests.

use std::process::ExitCode;

use harness::probe;

fn main() -> ExitCode {
    let listen = std::env::args().nth(1).unwrap_or_default();
    probe::main(&listen, &probe::token())
}
