// SPDX-License-Identifier: Apache-2.0
//! Programs linked to devices, netfilter hooks and tracepoints.
#![expect(unsafe_code, reason = "the bpf system call")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libbpf_rs::libbpf_sys::{
    self, BPF_F_AFTER, BPF_F_BEFORE, BPF_NETFILTER, BPF_TCX_EGRESS, BPF_TCX_INGRESS,
    bpf_link_create_opts, bpf_prog_query_opts,
};
use nix::net::if_::if_nametoindex;

use super::BpfError;
use crate::net::Netns;
use crate::plan::IpFamily;

/// Programs on one side of a device that are told of, at most.
const ATTACHED_MAX: usize = 64;

/// Side of a device, seen from the host it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// What the device receives, before the host's stack sees it.
    Ingress,
    /// What the host sends by it, before the device sees it.
    Egress,
}

/// Place among the programs on the same side of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Before all that are there.
    First,
    /// Behind all that are there.
    Last,
}

/// A netfilter hook for IPv4, and the place among what is hooked there. The numbers are those of
/// `include/uapi/linux/netfilter.h` and `netfilter_ipv4.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hook {
    /// `NF_INET_PRE_ROUTING` 0, `LOCAL_IN` 1, `FORWARD` 2, `LOCAL_OUT` 3, `POST_ROUTING` 4.
    pub number: u32,
    /// Lower ones run first.
    pub priority: i32,
}

/// A program that runs somewhere until this is dropped.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// Links a program of type `tcx` to a device of `host` (Linux 6.6).
    ///
    /// # Errors
    /// There is no such device, or the kernel refuses.
    pub fn to_device(
        program: &OwnedFd,
        host: &Netns,
        device: &str,
        side: Side,
        order: Order,
    ) -> Result<Self, BpfError> {
        let subject = format!("{}/{device}", host.name());
        let failed = BpfError::refused("link a program to", subject.clone());
        let program =
            program.try_clone().map_err(BpfError::refused("share a program for", subject))?;
        let device = device.to_owned();
        // A device's number means something in its own namespace only.
        host.run(move || {
            let index = if_nametoindex(device.as_str())?;
            let mut options = options();
            options.flags = match order {
                Order::First => BPF_F_BEFORE,
                Order::Last => BPF_F_AFTER,
            };
            create(program.as_fd(), index as i32, attach_type(side), &options)
        })
        .map(Self)
        .map_err(failed)
    }

    /// Links a program of type `netfilter` to a hook of `host` for packets of a family (Linux 6.4).
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn to_hook(
        program: &OwnedFd,
        host: &Netns,
        family: IpFamily,
        hook: Hook,
    ) -> Result<Self, BpfError> {
        let protocol = match family {
            IpFamily::Ipv4 => nix::libc::NFPROTO_IPV4,
            IpFamily::Ipv6 => nix::libc::NFPROTO_IPV6,
        };
        let subject = format!("hook {} of {}", hook.number, host.name());
        let failed = BpfError::refused("link a program to", subject.clone());
        let program =
            program.try_clone().map_err(BpfError::refused("share a program for", subject))?;
        host.run(move || {
            let mut options = options();
            options.__bindgen_anon_1.netfilter.pf = protocol as u32;
            options.__bindgen_anon_1.netfilter.hooknum = hook.number;
            options.__bindgen_anon_1.netfilter.priority = hook.priority;
            create(program.as_fd(), 0, BPF_NETFILTER, &options)
        })
        .map(Self)
        .map_err(failed)
    }

    /// Links a program of type `raw_tp` to a tracepoint: the whole machine's.
    ///
    /// # Errors
    /// There is no such tracepoint, or the kernel refuses.
    pub fn to_tracepoint(program: &OwnedFd, name: &std::ffi::CStr) -> Result<Self, BpfError> {
        // SAFETY: `name` ends in a NUL and outlives the call.
        let fd = unsafe { libbpf_sys::bpf_raw_tracepoint_open(name.as_ptr(), program.as_raw_fd()) };
        let subject = || format!("tracepoint {}", name.to_string_lossy());
        owned(fd)
            .map(Self)
            .map_err(|error| BpfError::refused("link a program to", subject())(error))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Closing alone would not do: a child that another thread is just starting holds a copy of
        // the descriptor until it calls execve(2). Tracepoints cannot be detached; those live as
        // long as the copy.
        // SAFETY: the descriptor is open and a link's.
        let _ = unsafe { libbpf_sys::bpf_link_detach(self.0.as_raw_fd()) };
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The kernel's numbers of the programs on one side of a device, in the order they run. None where
/// the kernel knows no tcx.
///
/// # Errors
/// There is no such device.
pub fn attached(host: &Netns, device: &str, side: Side) -> Result<Vec<u32>, BpfError> {
    let failed = BpfError::refused("ask for programs of", format!("{}/{device}", host.name()));
    let device = device.to_owned();
    host.run(move || {
        let index = if_nametoindex(device.as_str())?;
        let mut ids = [0u32; ATTACHED_MAX];
        let mut query =
            bpf_prog_query_opts { sz: size_of::<bpf_prog_query_opts>() as _, ..Default::default() };
        query.prog_ids = ids.as_mut_ptr();
        query.__bindgen_anon_1.count = ATTACHED_MAX as u32;
        // SAFETY: `query` says its own size, and `prog_ids` has room for `count` numbers.
        let code = unsafe {
            libbpf_sys::bpf_prog_query_opts(index as i32, attach_type(side), &raw mut query)
        };
        match -code {
            // SAFETY: both members of the union are the same number.
            0 => Ok(ids[..unsafe { query.__bindgen_anon_1.count } as usize].to_vec()),
            nix::libc::ENOENT | nix::libc::EINVAL => Ok(Vec::new()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    })
    .map_err(failed)
}

fn attach_type(side: Side) -> libbpf_sys::bpf_attach_type {
    match side {
        Side::Ingress => BPF_TCX_INGRESS,
        Side::Egress => BPF_TCX_EGRESS,
    }
}

fn options() -> bpf_link_create_opts {
    bpf_link_create_opts { sz: size_of::<bpf_link_create_opts>() as _, ..Default::default() }
}

fn create(
    program: BorrowedFd<'_>,
    target: i32,
    kind: libbpf_sys::bpf_attach_type,
    options: &bpf_link_create_opts,
) -> io::Result<OwnedFd> {
    // SAFETY: `options` says its own size and holds no pointer.
    owned(unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), target, kind, options) })
}

fn owned(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: the kernel just gave this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
