// SPDX-License-Identifier: Apache-2.0
//! Why the programs cannot run, in words that help.

use std::path::Path;

use crate::Unavailable;

/// First kernel with links of type tcx; those to netfilter hooks are two releases older.
const OLDEST: (u32, u32) = (6, 6);
/// Capabilities by their bits (`include/uapi/linux/capability.h`).
const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
const CAP_SYS_ADMIN: u32 = 21;

/// What is asked of the machine once the kernel has said no.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `uname -r`.
    pub release: String,
    /// Whether the kernel tells its types (`/sys/kernel/btf/vmlinux`).
    pub btf: bool,
    /// Whether the kernel is locked down for confidentiality, where programs may not read it.
    pub locked_down: bool,
    /// Effective capabilities, a bit each; in a user namespace of its own a process has none that
    /// counts here.
    pub capabilities: u64,
    /// Whether the process is in the machine's own user namespace.
    pub own_user_namespace: bool,
}

impl Facts {
    /// Asks this machine.
    pub fn of_this_machine() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let status = read("/proc/self/status");
        let capabilities = status
            .lines()
            .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
        let everyone = |map: String| map.split_whitespace().eq(["0", "0", "4294967295"]);
        Self {
            release: nix::sys::utsname::uname()
                .map(|name| name.release().to_string_lossy().into_owned())
                .unwrap_or_default(),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            locked_down: read("/sys/kernel/security/lockdown").contains("[confidentiality]"),
            capabilities: capabilities.unwrap_or_default(),
            own_user_namespace: everyone(read("/proc/self/uid_map")),
        }
    }
}

/// What is missing, given that `error` is what the kernel or libbpf said.
pub fn explain(facts: &Facts, error: &dyn std::error::Error) -> Unavailable {
    let said = chain(error);
    if !facts.own_user_namespace {
        return Unavailable::new(
            "BPF programs, which only the machine's own user namespace may load",
            format!("a user namespace of its own ({said})"),
            "run as root",
        );
    }
    if let Some(names) = missing_capabilities(facts.capabilities) {
        return Unavailable::new(names, format!("none of it ({said})"), "run as root");
    }
    if facts.locked_down {
        return Unavailable::new(
            "a kernel whose memory programs may read",
            format!("lockdown for confidentiality ({said})"),
            "boot with lockdown=integrity or none",
        );
    }
    if !facts.btf {
        return Unavailable::new(
            "a kernel that tells its types (CONFIG_DEBUG_INFO_BTF)",
            format!("no /sys/kernel/btf/vmlinux ({said})"),
            "a distribution's kernel, or one built with CONFIG_DEBUG_INFO_BTF=y",
        );
    }
    if version(&facts.release).is_some_and(|found| found < OLDEST) {
        let (major, minor) = OLDEST;
        return Unavailable::new(
            format!("Linux {major}.{minor} or later (tcx and netfilter links)"),
            format!("Linux {} ({said})", facts.release),
            "a newer kernel",
        );
    }
    Unavailable::new(
        "BPF with a ring buffer, netfilter links and tcx (CONFIG_BPF_SYSCALL, CONFIG_NET_XGRESS, \
         CONFIG_NETFILTER_BPF_LINK)",
        said,
        "a kernel built with them",
    )
}

fn missing_capabilities(held: u64) -> Option<String> {
    let has = |bit: u32| held >> bit & 1 == 1;
    // CAP_SYS_ADMIN stands for the two that were split off it in Linux 5.8.
    let lacking: Vec<&str> = NEEDED
        .iter()
        .filter(|&&(bit, _)| !(has(bit) || bit > 31 && has(CAP_SYS_ADMIN)))
        .map(|&(_, name)| name)
        .collect();
    (!lacking.is_empty()).then(|| lacking.join(", "))
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// An error with all its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Facts {
        Facts {
            release: "6.18.44".to_owned(),
            btf: true,
            locked_down: false,
            capabilities: u64::MAX,
            own_user_namespace: true,
        }
    }

    fn need(facts: Facts) -> String {
        explain(&facts, &std::io::Error::other("EPERM")).need
    }

    #[test]
    fn the_reason_names_what_is_missing() {
        let ordinary = Facts { capabilities: 0, ..healthy() };
        assert_eq!(need(ordinary), "CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF");
        let network_only = Facts { capabilities: 1 << 12, ..healthy() };
        assert_eq!(need(network_only), "CAP_PERFMON, CAP_BPF");
        let mapped = Facts { own_user_namespace: false, ..healthy() };
        assert!(need(mapped).contains("user namespace"));
        let old = Facts { release: "6.1.0-18-amd64".to_owned(), ..healthy() };
        assert!(need(old).starts_with("Linux 6.6"));
        assert!(need(Facts { btf: false, ..healthy() }).contains("BTF"));
        assert!(need(Facts { locked_down: true, ..healthy() }).contains("memory"));
        assert!(need(healthy()).contains("ring buffer"));
    }

    #[test]
    fn the_kernels_own_words_are_in_the_reason() {
        let reason = explain(&healthy(), &std::io::Error::other("no such map type"));
        assert_eq!(reason.found, "no such map type");
    }
}
