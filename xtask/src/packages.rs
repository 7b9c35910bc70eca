// SPDX-License-Identifier: Apache-2.0
//! Programs the lab calls, the packages that have them, and their installation.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use harness::cni::exec;
use harness::plan::{
    BalancerKind, CniKind, IngressKind, IngressTls, KernelChoice, Mode, Profile, Road,
};

use crate::kernels;

/// A program and the Debian package it comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
    pub(crate) needed_for: &'static str,
}

const fn program(name: &'static str, package: &'static str, needed_for: &'static str) -> Program {
    Program { name, package, needed_for }
}

const IPTABLES: Program =
    program("iptables-nft-restore", "iptables", "modes iptables, userspace, ipvs");
const NFT: Program = program("nft", "nftables", "mode nftables");
const IPSET: Program = program("ipset", "ipset", "mode ipvs");
const HAPROXY: Program =
    program("haproxy", "haproxy", "load balancer and ingress controller haproxy");
const NGINX: Program = program("nginx", "nginx", "ingress controller nginx");
/// Its file is what it is looked for by.
const NGINX_STREAM: Program = program(
    "../lib/nginx/modules/ngx_stream_module.so",
    "libnginx-mod-stream",
    "load balancer nginx",
);
const IPVSADM: Program = program("ipvsadm", "ipvsadm", "mode ipvs");

/// Where it is, the other reference plugins are.
const CNI_PLUGINS: Program = program("host-local", exec::PACKAGE, "cni exec");

/// Programs the tests compare nic2pod with.
pub(crate) const FOR_TESTS: [Program; 15] = [
    HAPROXY,
    NGINX,
    NGINX_STREAM,
    IPTABLES,
    NFT,
    IPSET,
    IPVSADM,
    CNI_PLUGINS,
    program("ip", "iproute2", "tests of the lab"),
    program("conntrack", "conntrack", "tests of conntrack"),
    program("tcpdump", "tcpdump", "tests of the taps"),
    program("tshark", "tshark", "tests of pcapng files"),
    program("ethtool", "ethtool", "tests of checksums"),
    program("setpriv", "util-linux", "tests without root"),
    program("chromium", "chromium", "tests of the report in a browser"),
];

/// Programs that a profile's modes and CNIs call. Those of ipvs are of no use where no kernel has IPVS: the
/// mode is skipped there whatever is installed. Guests have the machine's own programs.
pub(crate) fn for_bench(profile: &Profile) -> Vec<Program> {
    let ip_vs = profile.matrix.kernel.iter().any(|choice| match choice {
        KernelChoice::Host => harness::proxy::ipvs::kernel_may_have_ip_vs(),
        KernelChoice::Auto => {
            harness::proxy::ipvs::kernel_may_have_ip_vs() || kernels::any_installed()
        }
        KernelChoice::Uml(_) | KernelChoice::Qemu(_) => true,
    });
    let plugins = profile.matrix.cni.iter().any(|cni| cni.kind() == CniKind::Exec);
    let mut programs: Vec<_> = plugins.then_some(CNI_PLUGINS).into_iter().collect();
    for mode in &profile.matrix.mode {
        match mode {
            Mode::None | Mode::Ebpf => {}
            Mode::Userspace | Mode::Iptables => programs.push(IPTABLES),
            Mode::Nftables => programs.push(NFT),
            Mode::Ipvs if ip_vs => programs.extend([IPTABLES, IPSET, IPVSADM]),
            Mode::Ipvs => {}
        }
    }
    let balanced = profile.matrix.route.iter().any(|route| route.road == Road::Loadbalancer);
    if balanced {
        match profile.lab.balancer {
            BalancerKind::Embedded | BalancerKind::Router => {}
            BalancerKind::Haproxy => programs.extend([HAPROXY, NFT]),
            BalancerKind::Nginx => programs.extend([NGINX, NGINX_STREAM, NFT]),
            // Debian has no Envoy.
            BalancerKind::Envoy => programs.push(NFT),
            BalancerKind::Ipvs => programs.push(IPVSADM),
        }
    }
    if profile.matrix.route.iter().any(|route| route.road.is_ingress()) {
        match profile.lab.ingress {
            IngressKind::Embedded => {}
            IngressKind::Nginx => {
                programs.extend([NGINX, NFT]);
                programs.extend(
                    (profile.lab.ingress_tls == IngressTls::Passthrough).then_some(NGINX_STREAM),
                );
            }
            IngressKind::Haproxy => programs.extend([HAPROXY, NFT]),
        }
    }
    programs
}

/// Where a program is: PATH, and the administrator's folders that an ordinary user's PATH lacks, those of
/// CNI plugins among them.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].into_iter().chain(exec::FOLDERS).map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Installs what is missing if that was asked for and can be done; otherwise names it. A missing
/// program is no error here: the modes that need it are skipped with their reason.
pub(crate) fn supply(programs: &[Program], yes: bool) -> Result<()> {
    let mut packages: Vec<_> =
        programs.iter().filter(|p| find(p.name).is_none()).map(|p| p.package).collect();
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let can = nix::unistd::geteuid().is_root() && find("apt-get").is_some();
    if !(yes && can) {
        let how = if can { "or give --yes" } else { "as root" };
        eprintln!("missing packages: apt-get install {list}   ({how})");
        return Ok(());
    }
    eprintln!("installing {list}");
    apt_get(&["update", "-q"])?;
    let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
    install.extend(packages);
    apt_get(&install)
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Only programs are wanted, not services of theirs on this machine: invoke-rc.d starts none outside
        // of the usual run levels, systemctl none where the system is said to be down.
        .env("RUNLEVEL", "1")
        .env("SYSTEMD_OFFLINE", "1")
        .stdin(Stdio::null())
        .output()
        .context("failed to run apt-get")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "apt-get {} failed: {}",
        arguments.join(" "),
        words.trim_end()
    );
    Ok(())
}
