// SPDX-License-Identifier: Apache-2.0
//! Which modules of a kernel a guest takes along.
//!
//! They are loaded when they are asked for: the kernel calls `/sbin/modprobe` for the rule, the kind
//! of interface or the scheduler it does not know (kernel/module/kmod.c), and a case needs a few of
//! them only. Loading all of them would take an emulated processor seconds.

/// Modules without which there is no guest, with the options that make them: the port, and the
/// links of every lab.
pub(super) const REQUIRED: [(&str, &str); 3] = [
    ("virtio_pci", "CONFIG_VIRTIO_PCI"),
    ("virtio_console", "CONFIG_VIRTIO_CONSOLE"),
    ("veth", "CONFIG_VETH"),
];

/// Modules that process 1 loads before it does anything else: the port's, whose device nobody opens
/// before it is there, and those of which sysctls are read and set before any rule needs them. Those
/// that a kernel lacks are for the modes' own checks to name, in the guest.
pub(super) const FIRST: [&str; 4] =
    ["virtio_pci", "virtio_console", "nf_conntrack", "br_netfilter"];

/// Modules that proxy modes, CNIs, networks and captures may ask for. A name that ends in `*`
/// stands for all that begin so: kernels differ in how they cut them up.
pub(super) const TAKEN: [&str; 35] = [
    // Links.
    "bridge",
    "br_netfilter",
    "dummy",
    "ipvlan",
    "macvlan",
    "veth",
    "vxlan",
    // Rules.
    "ip_set*",
    "ip_tables",
    "ipt_*",
    "iptable_*",
    "nf_conntrack",
    "nf_conntrack_netlink",
    "nf_log_*",
    "nf_nat",
    "nf_reject_*",
    "nf_tables",
    "nfnetlink*",
    "nft_*",
    "x_tables",
    "xt_*",
    // IPVS.
    "ip_vs*",
    // Queues and classifiers.
    "act_gact",
    "cls_bpf",
    "sch_fq",
    "sch_ingress",
    "sch_netem",
    "sch_tbf",
    // What lists sockets.
    "af_packet_diag",
    "inet_diag",
    "tcp_diag",
    // What the ones above ask for by an alias: sctp's and conntrack's checksum, the port's device.
    "crc32c*",
    "libcrc32c",
    "virtio_console",
    "virtio_pci",
];

/// Whether a name is one of those a pattern stands for.
pub(super) fn stands_for(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_names_that_begin_alike() {
        assert!(stands_for("ip_set*", "ip_set") && stands_for("ip_set*", "ip_set_hash_ip"));
        assert!(stands_for("veth", "veth") && !stands_for("veth", "vethx"));
    }

    #[test]
    fn what_is_required_or_first_is_taken_along() {
        for name in REQUIRED.iter().map(|(name, _)| name).chain(&FIRST) {
            assert!(TAKEN.iter().any(|pattern| stands_for(pattern, name)), "{name}");
        }
    }
}
