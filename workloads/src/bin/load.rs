// SPDX-License-Identifier: Apache-2.0
//! The load agent on its own, for namespaces and containers.

fn main() -> std::process::ExitCode {
    workloads::load::program(std::env::args_os().skip(1))
}
