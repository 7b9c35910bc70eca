// SPDX-License-Identifier: Apache-2.0
//! Flags of `lab`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use harness::plan::{CniKind, Mode};

use super::CniArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Every capability, what needs it, and what supplies it
    Doctor,
    /// Remove what killed runs left behind
    Gc,
    /// Bring a kind cluster up and keep it
    Up(LabUpArgs),
    /// Write the image of nic2pod's agents to a file, for docker load, and print its name
    Image {
        /// File to write
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// With the program that puts probes on nodes, for bench --probes
        #[arg(long)]
        probes: bool,
    },
    /// kind clusters that are up
    Ls,
    /// Take kind clusters down, those that are named or all of nic2pod's
    Down {
        /// Names that `ls` shows
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Build, list and choose User-Mode Linux kernels for labs
    #[command(subcommand)]
    Kernel(KernelCommand),
}

#[derive(Debug, Args)]
pub(crate) struct LabUpArgs {
    /// Proxy mode
    #[arg(long, default_value = "iptables")]
    pub(crate) mode: Mode,
    /// CNI
    #[arg(long, default_value = "bridge")]
    pub(crate) cni: CniKind,
    /// Nodes, the control plane's included
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub(crate) nodes: u32,
    /// kind's program [default: $KIND, or kind in PATH]
    #[arg(long, value_name = "FILE")]
    pub(crate) kind_bin: Option<PathBuf>,
    /// Image of the nodes [default: $NIC2POD_KIND_IMAGE, or kind's own]
    #[arg(long, value_name = "REF")]
    pub(crate) node_image: Option<String>,
    #[command(flatten)]
    pub(crate) cni_files: CniArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KernelCommand {
    /// Build a kernel with everything that modes, CNIs and engines need, and keep it
    Build(KernelBuildArgs),
    /// The kernels there are; the one in use has a star
    Ls,
    /// Choose the kernel that --kernel uml runs on
    Use {
        /// A name or version that `ls` shows, or a path of a file built elsewhere, with a slash in it
        #[arg(value_name = "NAME|PATH")]
        kernel: String,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask lab kernel build --yes
  cargo xtask lab kernel build --source ~/linux --config kasan.config

Without --source, the distribution's newest linux-source package is taken, or where that is older
than 6.19, Debian sid's. Sources are never written to. Kernels are kept in
$XDG_CACHE_HOME/nic2pod/kernels, named by version and configuration; the build needs 5 GiB there.")]
pub(crate) struct KernelBuildArgs {
    /// A kernel tree of your own, clean (never configured in)
    #[arg(long, value_name = "DIR")]
    pub(crate) source: Option<PathBuf>,
    /// Further options, in Kconfig's form, laid over the project's
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Install missing packages without asking (Debian or Ubuntu, as root)
    #[arg(long)]
    pub(crate) yes: bool,
}
