// SPDX-License-Identifier: Apache-2.0
//! Programs on a host's devices, whoever linked them.
#![expect(unsafe_code, reason = "the bpf system call")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libbpf_rs::libbpf_sys;
use nix::net::if_::if_nameindex;

use super::{BpfError, Side, attached};
use crate::net::Netns;

/// A program at a device's ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressProgram {
    /// Device.
    pub device: String,
    /// The kernel's number of the program.
    pub id: u32,
    /// Its name, cut to 15 characters; empty if it has none.
    pub name: String,
}

/// Programs linked with tcx at the ingress of the host's devices. None where the kernel does not
/// let us ask: in a namespace of an unprivileged user nobody without privilege could link any.
///
/// # Errors
/// A device or a program went while it was asked about.
pub fn ingress_programs(host: &Netns) -> Result<Vec<IngressProgram>, BpfError> {
    let subject = format!("devices of {}", host.name());
    let devices: Vec<String> = host
        .run(|| {
            let all = if_nameindex()?;
            Ok(all.iter().map(|device| device.name().to_string_lossy().into_owned()).collect())
        })
        .map_err(BpfError::refused("list", subject))?;
    let mut found = Vec::new();
    for device in devices {
        let ids = match attached(host, &device, Side::Ingress) {
            Ok(ids) => ids,
            Err(BpfError::Refused { source, .. }) if may_not_ask(&source) => return Ok(found),
            Err(error) => return Err(error),
        };
        for id in ids {
            found.push(IngressProgram { device: device.clone(), id, name: name(id)? });
        }
    }
    Ok(found)
}

fn may_not_ask(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
}

/// Name of a program.
///
/// # Errors
/// There is none of this number.
fn name(id: u32) -> Result<String, BpfError> {
    let failed = || BpfError::refused("ask about", format!("BPF program {id}"));
    // SAFETY: no pointer is passed.
    let fd = unsafe { libbpf_sys::bpf_prog_get_fd_by_id(id) };
    if fd < 0 {
        return Err(failed()(io::Error::from_raw_os_error(-fd)));
    }
    // SAFETY: the kernel just gave this descriptor to us alone.
    let program = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut bytes = size_of_val(&info) as u32;
    // SAFETY: `info` is as long as `bytes` says, and all its pointers to buffers are null.
    let code = unsafe {
        libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut bytes)
    };
    if code < 0 {
        return Err(failed()(io::Error::from_raw_os_error(-code)));
    }
    let text = info.name.map(|c| c as u8);
    let text = CStr::from_bytes_until_nul(&text).unwrap_or_default();
    Ok(text.to_string_lossy().into_owned())
}
