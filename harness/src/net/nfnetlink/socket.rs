// SPDX-License-Identifier: Apache-2.0
//! A netfilter netlink socket. It belongs to the namespace of the thread that opens it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname,
    recv, send, setsockopt, socket, sockopt,
};

/// Larger than any datagram of the kernel's: dumps come in pieces of at most 32 KiB
/// (`netlink_dump`, net/netlink/af_netlink.c), an event is a few hundred bytes.
pub(crate) const DATAGRAM_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// Opens one that hears the multicast groups of the mask: bit `n - 1` is group `n`.
    pub(crate) fn open(groups: u32) -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkNetFilter,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self(fd))
    }

    /// Sets the receive buffer, past `net.core.rmem_max` if the process may, and returns what it
    /// is now (the kernel doubles what it is asked for, for its own use).
    pub(crate) fn enlarge_receive_buffer(&self, bytes: usize) -> io::Result<usize> {
        if setsockopt(&self.0, sockopt::RcvBufForce, &bytes).is_err() {
            setsockopt(&self.0, sockopt::RcvBuf, &bytes)?;
        }
        Ok(nix::sys::socket::getsockopt(&self.0, sockopt::RcvBuf)?)
    }

    /// The address the kernel gave it.
    pub(crate) fn port_id(&self) -> io::Result<u32> {
        Ok(getsockname::<NetlinkAddr>(self.0.as_raw_fd())?.pid())
    }

    pub(crate) fn send(&self, request: &[u8]) -> io::Result<()> {
        send(self.0.as_raw_fd(), request, MsgFlags::empty())?;
        Ok(())
    }

    /// The next datagram, or `None` when none is there.
    pub(crate) fn take<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        // With MSG_TRUNC the kernel returns the datagram's own length.
        match recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC) {
            Ok(length) => buffer.get(..length).map(Some).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a datagram of {length} bytes is longer than any should be"),
                )
            }),
            Err(nix::Error::EAGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The next datagram, awaited until `deadline`.
    pub(crate) fn wait<'a>(&self, buffer: &'a mut [u8], deadline: Instant) -> io::Result<&'a [u8]> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => break,
                Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(self.take(buffer)?.unwrap_or_default())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
