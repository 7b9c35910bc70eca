// SPDX-License-Identifier: Apache-2.0
//! The machine, as far as it can change a figure (DESIGN rule: a run says where it was made).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use record::{Fidelity, Host, Tool};

/// Sysctls of the host that decide how the path behaves or how much it holds.
const SYSCTLS: [&str; 10] = [
    "net/core/netdev_budget",
    "net/core/netdev_max_backlog",
    "net/core/netdev_tstamp_prequeue",
    "net/core/rps_default_mask",
    "net/core/somaxconn",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/tcp_congestion_control",
    "net/netfilter/nf_conntrack_buckets",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_timestamp",
];

/// Kernel options that decide which modes and probes there are, or what they cost.
const OPTIONS: [&str; 15] = [
    "CONFIG_BPF_JIT",
    "CONFIG_BRIDGE_NETFILTER",
    "CONFIG_HZ",
    "CONFIG_IPVLAN",
    "CONFIG_IP_NF_IPTABLES",
    "CONFIG_IP_VS",
    "CONFIG_MITIGATION_RETPOLINE",
    "CONFIG_NETFILTER_BPF_LINK",
    "CONFIG_NET_SCH_NETEM",
    "CONFIG_NF_CONNTRACK",
    "CONFIG_NF_TABLES",
    "CONFIG_NFT_COMPAT",
    "CONFIG_PREEMPT",
    "CONFIG_PREEMPT_DYNAMIC",
    "CONFIG_VXLAN",
];

/// Tools whose version can change a result, and the argument that makes them say it.
const TOOLS: [(&str, &str); 5] = [
    ("iptables-nft", "--version"),
    ("iptables-legacy", "--version"),
    ("nft", "--version"),
    ("ipset", "--version"),
    ("ipvsadm", "--version"),
];

/// Looks at the machine. What cannot be read is left empty. `privilege` is how the run got its
/// namespaces: `root` or `user namespace`.
pub fn host(privilege: &str) -> Host {
    let uname = nix::sys::utsname::uname().ok();
    let word = |pick: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        uname.as_ref().map(|u| pick(u).to_string_lossy().into_owned()).unwrap_or_default()
    };
    Host {
        kernel_release: word(|u| u.release()),
        kernel_version: word(|u| u.version()),
        machine: word(|u| u.machine()),
        cpu_model: field("/proc/cpuinfo", "model name").unwrap_or_default(),
        cpus: std::thread::available_parallelism().map_or(0, |n| n.get() as u32),
        governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        memory_bytes: field("/proc/meminfo", "MemTotal").and_then(|text| kib(&text)).unwrap_or(0),
        load_average: load_average().unwrap_or(0.0),
        sysctls: sysctls(),
        kernel_config: kernel_config(),
        privilege: privilege.to_owned(),
    }
}

/// Versions of the tools that are there.
pub fn tools() -> Vec<Tool> {
    TOOLS
        .iter()
        .filter_map(|(name, argument)| {
            let output = Command::new(name).arg(argument).output().ok()?;
            let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
            let version = String::from_utf8_lossy(&text).lines().next()?.trim().to_owned();
            Some(Tool { name: (*name).to_owned(), version })
        })
        .collect()
}

/// What times measured here may be used for: `absolute` only where processors are isolated from
/// the scheduler (`isolcpus`) and the machine is otherwise idle.
pub fn fidelity(host: &Host) -> Fidelity {
    let isolated = line("/sys/devices/system/cpu/isolated").is_some_and(|list| !list.is_empty());
    if isolated && host.load_average < 0.5 { Fidelity::Absolute } else { Fidelity::Relative }
}

fn line(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let (_, value) =
        text.lines().filter_map(|l| l.split_once(':')).find(|(k, _)| k.trim() == name)?;
    Some(value.trim().to_owned())
}

fn kib(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn load_average() -> Option<f64> {
    line("/proc/loadavg")?.split(' ').next()?.parse().ok()
}

fn sysctls() -> BTreeMap<String, String> {
    SYSCTLS
        .iter()
        .filter_map(|name| {
            let value = line(&Path::new("/proc/sys").join(name).to_string_lossy())?;
            Some((name.replace('/', "."), value.replace('\t', " ")))
        })
        .collect()
}

/// From /boot, or from /proc/config.gz through `zcat`, whichever the machine has.
fn kernel_config() -> BTreeMap<String, String> {
    let release =
        nix::sys::utsname::uname().ok().map(|u| u.release().to_string_lossy().into_owned());
    let text = release
        .and_then(|release| fs::read_to_string(format!("/boot/config-{release}")).ok())
        .or_else(|| {
            let output = Command::new("zcat").arg("/proc/config.gz").output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        })
        .unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| OPTIONS.contains(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
