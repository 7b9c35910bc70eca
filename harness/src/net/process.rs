// SPDX-License-Identifier: Apache-2.0
//! How a program is started on a host so that it cannot outlive it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use super::Netns;

/// Most that is kept of a program's standard error, bytes.
pub(super) const STDERR_LIMIT: usize = 8 * 1024;

/// PATH with the administrator's folders, where the kernel's tools are and which an ordinary user's
/// PATH often lacks.
pub(crate) fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    path.push(":/usr/sbin:/sbin");
    path
}

/// Makes `command` one for `host`, whose own xtables lock it takes.
pub(super) fn prepare(command: &mut Command, host: &Netns) {
    bind(command);
    command
        .env("LC_ALL", "C")
        .env("PATH", search_path())
        .env("XTABLES_LOCKFILE", host.xtables_lock());
}

/// Makes the three streams of `command` pipes, has it killed when the thread that starts it ends
/// (`PR_SET_PDEATHSIG`), and keeps a Ctrl-C at the terminal from it.
#[expect(unsafe_code, reason = "pre_exec is the only way to set the parent-death signal")]
pub(crate) fn bind(command: &mut Command) {
    let parent = nix::unistd::getpid();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    // SAFETY: the closure runs in the forked child and makes two system calls that are
    // async-signal-safe and touch no memory of the parent.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the signal was armed.
            if nix::unistd::getppid() != parent {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            Ok(())
        });
    }
}
