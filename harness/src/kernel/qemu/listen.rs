// SPDX-License-Identifier: Apache-2.0
//! A program that is run for what it says, and no longer than that may take.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::net::process::bind;

/// Most that is heard of a program, bytes.
const HEARD_BYTES_MAX: u64 = 1 << 20;

/// What a program said, and how it ended.
#[derive(Debug)]
pub(super) struct Heard {
    /// Its two outputs as they came.
    pub(super) text: String,
    /// How it ended.
    pub(super) status: ExitStatus,
    /// Whether it had to be ended because it took too long.
    pub(super) late: bool,
}

/// Runs `command`, without input, until it ends, says a line that is `enough`, or has taken
/// `patience`; ends it, with the processes it started, in the latter two cases.
///
/// # Errors
/// It cannot be started.
pub(super) fn listen(
    mut command: Command,
    patience: Duration,
    enough: impl Fn(&str) -> bool,
) -> io::Result<Heard> {
    bind(&mut command);
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // The command holds the pipe's other end, and would keep it open.
    drop(command);
    let pid = Pid::from_raw(child.id().cast_signed());
    let (finished, watched) = mpsc::sync_channel::<()>(0);
    let watch = std::thread::spawn(move || {
        let late = watched.recv_timeout(patience) == Err(RecvTimeoutError::Timeout);
        // The process has not been waited for, so that the group's number is still its.
        late && killpg(pid, Signal::SIGKILL).is_ok()
    });
    let mut text = Vec::new();
    let mut reader = BufReader::new(reader.take(HEARD_BYTES_MAX));
    loop {
        let from = text.len();
        // What cannot be read any more has been said.
        if !reader.read_until(b'\n', &mut text).is_ok_and(|bytes| bytes > 0) {
            break;
        }
        if enough(&String::from_utf8_lossy(&text[from..])) {
            let _ = killpg(pid, Signal::SIGKILL);
            break;
        }
    }
    // A program that says more than is heard ends by that.
    drop(reader);
    // Its number stays its own until the watch, which may kill it, is over.
    let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
    drop(finished);
    let late = watch.join().unwrap_or(false);
    let status = child.wait()?;
    Ok(Heard { text: String::from_utf8_lossy(&text).into_owned(), status, late })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_outputs_are_heard_to_the_end() {
        let heard = listen(shell("echo a; echo b >&2; exit 3"), Duration::from_secs(60), |_| false);
        let heard = heard.unwrap();
        assert_eq!((heard.text.as_str(), heard.status.code()), ("a\nb\n", Some(3)));
        assert!(!heard.late);
    }

    #[test]
    fn a_program_that_hangs_is_ended_with_what_it_started() {
        let started = Instant::now();
        let heard =
            listen(shell("echo here; sleep 600 & sleep 600"), Duration::from_millis(200), |_| {
                false
            });
        let heard = heard.unwrap();
        assert!(heard.late && heard.text == "here\n", "{heard:?}");
        assert!(started.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_program_that_never_stops_speaking_is_not_heard_for_ever() {
        let heard = listen(shell("exec yes"), Duration::from_secs(300), |_| false).unwrap();
        assert_eq!(heard.text.len() as u64, HEARD_BYTES_MAX);
        assert!(!heard.late && !heard.status.success(), "{:?}", heard.status);
    }

    #[test]
    fn a_program_is_ended_once_it_has_said_enough() {
        let heard =
            listen(shell("echo x; echo late; sleep 600"), Duration::from_secs(300), |line| {
                line.contains("late")
            });
        let heard = heard.unwrap();
        assert!(!heard.late && !heard.status.success(), "{heard:?}");
        assert_eq!(heard.text, "x\nlate\n");
    }
}
