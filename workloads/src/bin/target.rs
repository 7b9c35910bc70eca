// SPDX-License-Identifier: Apache-2.0
//! The target agent on its own, for namespaces and containers.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = arguments.iter().filter_map(|word| word.to_str()).collect();
    match words[..] {
        ["--spec", spec] => workloads::target::main_of(spec),
        _ => workloads::target::program(arguments),
    }
}
