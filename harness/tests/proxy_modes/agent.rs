// SPDX-License-Identifier: Apache-2.0
//! Runs the proxy process the way the product does: `PROGRAM agent proxy`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["agent", "proxy"] => harness::relay::program::main(),
        _ => ExitCode::FAILURE,
    }
}
