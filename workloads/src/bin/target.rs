// SPDX-License-Identifier: Apache-2.0
//! The target agent on its own, for namespaces and containers.

use std::process::ExitCode;

/// Environment variable with a `TargetTls` as JSON. Not in an argument, because there is a key in it:
/// those are in the process list of the node.
const TLS: &str = "NIC2POD_TLS";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = arguments.iter().filter_map(|word| word.to_str()).collect();
    match words[..] {
        ["--spec", spec] => workloads::target::main_of(spec, std::env::var(TLS).ok().as_deref()),
        _ => workloads::target::program(arguments),
    }
}
