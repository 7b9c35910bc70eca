// SPDX-License-Identifier: Apache-2.0
//! Programs of others that run on a host as long as they are wanted, and are asked nothing.

use std::collections::VecDeque;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::process::prepare;
use super::{Netns, ToolError};

/// Most that is kept of what it writes to standard error, bytes, from the end.
const LOG_LIMIT: usize = 32 * 1024;

/// A program that runs on a host until it is taken down. It is killed with the host's thread, too.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    log: Arc<Mutex<VecDeque<u8>>>,
}

impl Daemon {
    /// Starts it. Its PATH is `path` before that of any tool.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(
        host: &Netns,
        mut command: Command,
        path: &std::path::Path,
    ) -> Result<Self, ToolError> {
        let program = command.get_program().to_string_lossy().into_owned();
        prepare(&mut command, host);
        let mut search = path.as_os_str().to_owned();
        search.push(":");
        search.push(super::process::search_path());
        command.env("PATH", search).stdin(Stdio::null()).stdout(Stdio::null());
        let host_name = host.name().to_owned();
        let mut child = host.run(move || command.spawn()).map_err(|source| ToolError::Start {
            program,
            host: host_name,
            source,
        })?;
        let log = Arc::default();
        keep(child.stderr.take().expect("piped"), Arc::clone(&log));
        Ok(Self { child, log })
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system refuses to say.
    pub(crate) fn ended(&mut self) -> std::io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// What it wrote to standard error: the last of it.
    pub(crate) fn log(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = log.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Kills it, with whatever it started, and waits for its end.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn down(mut self) -> std::io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> std::io::Result<()> {
        if self.child.try_wait()?.is_none() {
            // It leads a process group of its own (`prepare`), and has not been waited for.
            killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL)?;
        }
        self.child.wait().map(drop)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The last resort of a guard whose owner did not call `down`; nobody is left to tell.
        let _ = self.end();
    }
}

/// Keeps the end of a stream, on a thread that ends with it.
fn keep(mut stream: impl Read + Send + 'static, log: Arc<Mutex<VecDeque<u8>>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.extend(&buffer[..length]);
            let over = log.len().saturating_sub(LOG_LIMIT);
            log.drain(..over);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_it_writes_is_kept_and_no_more_than_that() {
        let log = Arc::default();
        let text = format!("{}the end", "x".repeat(LOG_LIMIT));
        keep(std::io::Cursor::new(text), Arc::clone(&log));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let kept: Vec<u8> = log.lock().unwrap().iter().copied().collect();
            if kept.ends_with(b"the end") {
                assert_eq!(kept.len(), LOG_LIMIT);
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{} bytes", kept.len());
            std::thread::yield_now();
        }
    }
}
