// SPDX-License-Identifier: Apache-2.0
//! The guest's end of its port, for process 1 and what it starts.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use std::os::fd::{AsFd, AsRawFd};

use super::stage::FIRST_LIST;

/// Ports by name; each has its name in a file `name` (drivers/char/virtio_console.c).
const PORTS: &str = "/sys/class/virtio-ports";
/// How long the port may take to appear once its driver is loaded. The host is asked for it by
/// message, and an emulated processor may be slow.
const PORT_MAX: Duration = Duration::from_secs(30);
/// Group of the kernel's own events (lib/kobject_uevent.c).
const KERNEL_EVENTS: u32 = 1;

/// The device of the port with this name, after the modules that process 1 loads first have been
/// loaded. `/proc`, `/sys` and `/dev` have to be mounted.
///
/// # Errors
/// A module cannot be loaded, or the port does not appear within 30 s.
pub fn open_port(name: &str) -> io::Result<PathBuf> {
    load_first()?;
    await_port(name, Instant::now() + PORT_MAX)
}

/// Loads the modules that the archive lists, in its order. A guest without the list has them all
/// built in.
fn load_first() -> io::Result<()> {
    let list = match fs::read_to_string(FIRST_LIST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for path in list.lines() {
        match finit_module(File::open(path)?, c"", ModuleInitFlags::empty()) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(io::Error::other(format!("failed to load {path}: {errno}"))),
        }
    }
    Ok(())
}

fn await_port(name: &str, until: Instant) -> io::Result<PathBuf> {
    // Events are listened for before the first look, so that none falls between the two.
    let events = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkKObjectUEvent,
    )?;
    bind(events.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_EVENTS))?;
    loop {
        if let Some(device) = look(name)? {
            return Ok(device);
        }
        let left = until.saturating_duration_since(Instant::now());
        let patience = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLIN)], patience)? == 0 {
            let message = format!("no virtio port {name:?} within {} s", PORT_MAX.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        // What happened does not matter: the next look tells. Lost events do not, either.
        while recv(events.as_raw_fd(), &mut [0; 4096], MsgFlags::empty()).is_ok() {}
    }
}

fn look(name: &str) -> io::Result<Option<PathBuf>> {
    let ports = match fs::read_dir(PORTS) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    for port in ports {
        let port = port?;
        // A port that is being made has no name yet, and is looked at again.
        let found = fs::read_to_string(port.path().join("name")).unwrap_or_default();
        if found.trim_end() == name {
            return Ok(Some(PathBuf::from("/dev").join(port.file_name())));
        }
    }
    Ok(None)
}
