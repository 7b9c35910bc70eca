// SPDX-License-Identifier: Apache-2.0
//! Whether this machine can run the mode: by loading and linking what the mode loads and links.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::error::with_reasons;
use super::kernel::Kernel;
use super::{Ebpf, Plan};
use crate::Unavailable;
use crate::bpf::{BpfError, Link, Order, Side};
use crate::net::Netns;
use crate::plan::IpFamily;

/// Small, because the kernel allocates the map before its first entry.
const CONNECTIONS: u32 = 64;

const NEWER: &str = "Linux 6.6 or later, with CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_ACT";

/// For addresses of a family.
pub(super) fn check(scratch: &Netns, family: IpFamily) -> Result<(), Unavailable> {
    let options = Ebpf { connections_max: CONNECTIONS, ..Ebpf::default() };
    let loopback = match family {
        IpFamily::Ipv4 => IpAddr::from(Ipv4Addr::LOCALHOST),
        IpFamily::Ipv6 => IpAddr::from(Ipv6Addr::LOCALHOST),
    };
    let kernel = Kernel::load(&options, loopback, &Plan::default());
    let kernel = kernel.map_err(|error| unavailable(error, "BPF programs at tc"))?;
    for program in [&kernel.from_pod, &kernel.from_outside] {
        Link::to_device(&program.fd, scratch, "lo", Side::Ingress, Order::Last)
            .map_err(|error| unavailable(error, "links of BPF programs to devices (tcx)"))?;
    }
    Ok(())
}

fn unavailable(error: BpfError, what: &str) -> Unavailable {
    let found = with_reasons(&error);
    if let BpfError::Refused { source, .. } = &error
        && source.kind() == io::ErrorKind::PermissionDenied
    {
        let need = "the capabilities CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN of the machine";
        return Unavailable::new(need, found, "run as root, outside a user namespace");
    }
    if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        let need = "the kernel's own types in /sys/kernel/btf/vmlinux";
        return Unavailable::new(need, found, "a kernel with CONFIG_DEBUG_INFO_BTF");
    }
    Unavailable::new(what, found, NEWER)
}
