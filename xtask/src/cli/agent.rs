// SPDX-License-Identifier: Apache-2.0
//! What labs call this program for; no user does.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    Load,
    Target,
    Ingress,
    Dns,
    Proxy,
    /// The probes of a node, in a privileged pod.
    #[cfg(feature = "bpf")]
    Probe {
        /// Where it is asked.
        listen: String,
    },
    /// Process 1 of a guest.
    Guest {
        #[arg(long)]
        port: String,
    },
    /// The lab in a guest.
    GuestLab {
        #[arg(long)]
        port: String,
    },
    /// Test programs in User-Mode Linux.
    TestInUml(InUmlArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InUmlArgs {
    /// Test programs, by name
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) test: Vec<String>,
    /// Tests at a time
    #[arg(long, default_value_t = 2)]
    pub(crate) threads: u32,
    /// Processors of the guest
    #[arg(long, default_value_t = 1)]
    pub(crate) cpus: u32,
    /// Further arguments of the test programs
    #[arg(last = true)]
    pub(crate) filter: Vec<String>,
}
