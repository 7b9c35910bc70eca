// SPDX-License-Identifier: Apache-2.0
//! The target agent on its own, for namespaces and containers.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--spec", spec] => workloads::target::main_of(spec),
        _ => workloads::target::main(),
    }
}
