// SPDX-License-Identifier: Apache-2.0
//! The arguments that say who writes a mode's rules.

use std::path::PathBuf;

use clap::Args;
use harness::plan::{Profile, Proxy};

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ProxyArgs {
    /// Who writes the modes' rules: own (nic2pod), kube-proxy (the program of --proxy-bin, in lab netns) [default:
    /// the profile's, own; with --proxy-bin, kube-proxy]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) proxy: Vec<Proxy>,
    /// kube-proxy's program, run on each node and told of the Services by an API server of nic2pod's
    #[arg(long, value_name = "FILE")]
    pub(crate) proxy_bin: Option<PathBuf>,
}

impl ProxyArgs {
    /// Lays them over a profile.
    pub(crate) fn lay_over(&self, profile: &mut Profile) {
        if let Some(program) = &self.proxy_bin {
            // Absolute, because a guest's agents are started elsewhere.
            let absolute = std::path::absolute(program).unwrap_or_else(|_unknown| program.clone());
            profile.service.kube_proxy = Some(absolute);
            profile.matrix.proxy = vec![Proxy::KubeProxy];
        }
        if !self.proxy.is_empty() {
            profile.matrix.proxy = self.proxy.clone();
        }
    }
}
