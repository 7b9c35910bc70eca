// SPDX-License-Identifier: Apache-2.0
//! Words for labs and engines.

use clap::ValueEnum;
use harness::plan::Engine;

/// Which lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LabKind {
    /// Network namespaces on this machine.
    Netns,
    /// kind clusters in Docker, with the real kube-proxy.
    Kind,
    /// A cluster that exists.
    Kubeconfig,
    /// Times written in the profile, for tests.
    #[value(hide = true)]
    Fake,
}

pub(super) fn engine(word: &str) -> Result<Engine, String> {
    match word {
        "client" => Ok(Engine::Client),
        "tap" => Ok(Engine::Tap),
        "bpf" => Ok(Engine::Bpf),
        other => Err(format!("`{other}` is not one of client, tap, bpf")),
    }
}
