// SPDX-License-Identifier: Apache-2.0
//! The load agent on its own, for namespaces and containers.

use std::process::ExitCode;

/// Environment variable with the word that a worker's paths begin with. Not an argument: those are
/// in the process list of the node.
const TOKEN: &str = "NIC2POD_TOKEN";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = arguments.iter().filter_map(|word| word.to_str()).collect();
    match words[..] {
        ["--worker", listen] => {
            workloads::load::worker(listen, &std::env::var(TOKEN).unwrap_or_default())
        }
        _ => workloads::load::program(arguments),
    }
}
