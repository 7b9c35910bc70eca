// SPDX-License-Identifier: Apache-2.0
//! Process 1 of a guest: makes the guest a place programs can run in, starts the guest's side of the
//! lab, waits for every child that loses its parent, and powers off.
//!
//! It does so in its guest only: it refuses to be any process but the first.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{Pid, getpid};

use super::NAME_BUILT_IN;
use crate::net::process::search_path;

/// Open files of a process: a load generator with 10,000 connections, and room.
const FILES_MAX: u64 = 1 << 16;

/// File systems a guest needs. A kernel that mounts one itself answers `EBUSY`. /run is the one place
/// that is the guest's own and can be written; /tmp stays the host's, as programs may lie there.
const MOUNTS: [(&str, &str); 4] =
    [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", OWN)];
const OWN: &str = "/run";

/// Is process 1: never returns but with a reason not to be.
///
/// # Errors
/// This is not process 1.
pub fn run(port: &str) -> io::Result<std::convert::Infallible> {
    if getpid() != Pid::from_raw(1) {
        return Err(io::Error::other("`agent guest` is process 1 of a guest, and no other"));
    }
    if let Err(error) = guest(port) {
        say(&format!("guest: {error}"));
    }
    // What was said on the console is out before the machine is.
    let error = reboot(RebootMode::RB_POWER_OFF).expect_err("a machine that is off runs nothing");
    Err(error.into())
}

fn guest(port: &str) -> io::Result<()> {
    for (kind, at) in MOUNTS {
        match mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>) {
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(errno) => return Err(io::Error::other(format!("failed to mount {at}: {errno}"))),
        }
    }
    // Its failure is for those to name who do not find the list.
    let _ = Command::new("sh").args(["-c", NAME_BUILT_IN]).env("PATH", search_path()).status();
    // A guest that runs out of memory measures nothing any more: it ends, and says so.
    std::fs::write("/proc/sys/vm/panic_on_oom", "1")?;
    setrlimit(Resource::RLIMIT_NOFILE, FILES_MAX, FILES_MAX)?;
    let child = Command::new(std::env::current_exe()?)
        .args(["agent", "guest-lab", "--port", port])
        .env("PATH", search_path())
        .env("HOME", OWN)
        .env("TMPDIR", OWN)
        .current_dir(Path::new("/"))
        .stdin(Stdio::null())
        .spawn()?;
    let lab = Pid::from_raw(child.id().cast_signed());
    loop {
        // Whatever dies without a parent is process 1's to wait for.
        match wait()? {
            WaitStatus::Exited(pid, 0) if pid == lab => return Ok(()),
            WaitStatus::Exited(pid, status) if pid == lab => {
                return Err(io::Error::other(format!("the lab ended with status {status}")));
            }
            WaitStatus::Signaled(pid, signal, _) if pid == lab => {
                return Err(io::Error::other(format!("the lab was ended by {signal}")));
            }
            _ => {}
        }
    }
}

/// On the console: standard error, which the kernel opened there.
#[expect(clippy::print_stderr, reason = "process 1 has nobody else to tell")]
fn say(text: &str) {
    eprintln!("{text}");
}
