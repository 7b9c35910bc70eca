// SPDX-License-Identifier: Apache-2.0
//! The target agent on its own, for namespaces and containers.

use std::process::ExitCode;

/// Environment variable with the word that the path of the marks begins with, where they may be asked
/// for. Not an argument: those are in the process list of the node.
const TOKEN: &str = "NIC2POD_TOKEN";
/// Environment variable with a `TargetTls` as JSON. Not in an argument, because there is a key in it:
/// those are in the process list of the node.
const TLS: &str = "NIC2POD_TLS";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = arguments.iter().filter_map(|word| word.to_str()).collect();
    match words[..] {
        ["--spec", spec] => {
            let said = |name| std::env::var(name).ok();
            workloads::target::main_of(spec, said(TOKEN).as_deref(), said(TLS).as_deref())
        }
        _ => workloads::target::program(arguments),
    }
}
