// SPDX-License-Identifier: Apache-2.0
//! What an interface leaves to others: checksums, and the cutting and joining of segments. With
//! the kernel's defaults a veth pair hands over 64 KiB at a time and computes no checksum, which a
//! reader of the figures has to know; `ethtool -k` tells the same.

use std::fmt;
use std::os::fd::AsRawFd;

use nix::libc;
use socket2::{Domain, Socket, Type};

use super::{NetError, Netns};

/// An interface's offloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// Checksums of packets sent (`tx-checksumming`).
    pub tx_checksum: bool,
    /// TCP segments cut by the device (`tcp-segmentation-offload`).
    pub tso: bool,
    /// Segments cut as late as possible (`generic-segmentation-offload`).
    pub gso: bool,
    /// Segments joined as early as possible (`generic-receive-offload`).
    pub gro: bool,
}

impl fmt::Display for Offloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |on: bool| if on { "on" } else { "off" };
        let Self { tx_checksum, tso, gso, gro } = *self;
        let [tx, tso, gso, gro] = [tx_checksum, tso, gso, gro].map(word);
        write!(f, "tx checksum {tx}, tso {tso}, gso {gso}, gro {gro}")
    }
}

impl Netns {
    /// Reads an interface's offloads.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn offloads(&self, device: &str) -> Result<Offloads, NetError> {
        let subject = format!("offloads of {device} on {}", self.name());
        let device = device.to_owned();
        self.run(move || {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
            // Numbers from linux/ethtool.h: GTXCSUM, GTSO, GGSO, GGRO.
            Ok(Offloads {
                tx_checksum: flag(&socket, &device, 0x16)?,
                tso: flag(&socket, &device, 0x1e)?,
                gso: flag(&socket, &device, 0x23)?,
                gro: flag(&socket, &device, 0x2b)?,
            })
        })
        .map_err(NetError::os("read", subject))
    }
}

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

#[expect(unsafe_code, reason = "ethtool's settings have no other way in than an ioctl")]
fn flag(socket: &Socket, device: &str, command: u32) -> std::io::Result<bool> {
    let mut value = EthtoolValue { command, data: 0 };
    // SAFETY: ifreq is a plain C structure of integers and pointers; all zeroes is a value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte less than the field, so that the name ends with a zero.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(device.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request names a device and points at an ethtool_value that outlives the call, as
    // SIOCETHTOOL wants for the commands that read a flag (net/ethtool/ioctl.c, __dev_ethtool).
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(value.data != 0) }
}
