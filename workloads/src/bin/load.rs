// SPDX-License-Identifier: Apache-2.0
//! The load agent on its own, for namespaces and containers.

use std::process::ExitCode;

/// Environment variable with the word that a worker's paths begin with. Not an argument: those are
/// in the process list of the node.
const TOKEN: &str = "NIC2POD_TOKEN";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--worker", listen] => {
            workloads::load::worker(listen, &std::env::var(TOKEN).unwrap_or_default())
        }
        _ => workloads::load::main(),
    }
}
