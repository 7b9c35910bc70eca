// SPDX-License-Identifier: Apache-2.0
//! The same talk over a Unix socket: for agents in containers, whose standard streams belong to
//! whoever runs the container.

use std::ffi::OsString;
use std::io::{self, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::agent::{self, AgentError};

/// Written to standard error once an agent listens: containers' logs are watched for it.
pub const READY: &str = "ready";

/// A conversation: from the first line to the end of the input.
pub(crate) type Conversation = fn(BufReader<UnixStream>, UnixStream) -> Result<(), AgentError>;

/// Last line of a conversation that fails: whoever is at the other end does not see standard error.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Parting {
    Failed(String),
}

/// Runs an agent as its arguments say: without any on the standard streams, with `--socket PATH`
/// at a Unix socket.
pub(crate) fn main(
    program: &str,
    arguments: impl IntoIterator<Item = OsString>,
    on_streams: impl FnOnce() -> ExitCode,
    conversation: Conversation,
) -> ExitCode {
    match socket(arguments) {
        Ok(None) => on_streams(),
        Ok(Some(path)) => agent::exit(program, serve(program, &path, conversation)),
        Err(problem) => {
            // Standard error may be closed too; the exit code is then all that is left.
            let _ =
                writeln!(io::stderr(), "{program}: {problem}; usage: {program} [--socket PATH]");
            ExitCode::from(2)
        }
    }
}

/// The path after `--socket`, if the arguments are that.
fn socket(arguments: impl IntoIterator<Item = OsString>) -> Result<Option<PathBuf>, String> {
    let mut arguments = arguments.into_iter();
    let Some(first) = arguments.next() else { return Ok(None) };
    if first != "--socket" {
        return Err(format!("unknown argument {}", first.display()));
    }
    let path = arguments.next().ok_or("--socket is without its path")?;
    match arguments.next() {
        Some(more) => Err(format!("unknown argument {}", more.display())),
        None => Ok(Some(path.into())),
    }
}

/// Listens at `path` and holds one conversation at a time, for as long as the program lives; further
/// callers wait in the kernel's queue, which is bounded (`listen(2)`).
fn serve(program: &str, path: &Path, conversation: Conversation) -> Result<(), AgentError> {
    end_when_told()?;
    let listener = listen(path).map_err(AgentError::system("listen at the socket"))?;
    writeln!(io::stderr(), "{READY}").map_err(AgentError::Output)?;
    loop {
        let (stream, _) = listener.accept().map_err(AgentError::system("accept a caller"))?;
        if let Err(error) = hold(stream, conversation) {
            let _ = writeln!(io::stderr(), "{program}: {error}");
        }
    }
}

/// One conversation, to its end. What it fails with is said to the caller too.
fn hold(stream: UnixStream, conversation: Conversation) -> Result<(), AgentError> {
    let copy = || stream.try_clone().map_err(AgentError::system("copy the caller's socket"));
    let result = conversation(BufReader::new(copy()?), copy()?);
    if let Err(error) = &result {
        // The caller may have gone; that is then the error.
        let _ = agent::answer(&mut &stream, &Parting::Failed(error.to_string()));
    }
    // Ends the thread that reads the caller's lines, if it still does.
    let _ = stream.shutdown(Shutdown::Both);
    result
}

/// Binds `path`. A container that is started again finds the file of the program before it: nobody
/// answers there, and it goes.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && nobody_listens(path) => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        result => result,
    }
}

fn nobody_listens(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Ends the program at SIGTERM or SIGINT. The first process of a container has no default action
/// for signals (`pid_namespaces(7)`): without this a container's end would be waited for until its
/// period of grace is over.
fn end_when_told() -> Result<(), AgentError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(AgentError::system("start the runtime of signals"))?;
    let guard = runtime.enter();
    let handler = |kind| signal(kind).map_err(AgentError::system("handle a signal"));
    let (mut terminate, mut interrupt) =
        (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    drop(guard);
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        std::process::exit(0);
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .map(drop)
        .map_err(AgentError::system("start the thread of signals"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Option<PathBuf>, String> {
        socket(arguments.iter().map(OsString::from))
    }

    #[test]
    fn no_argument_means_the_standard_streams() {
        assert_eq!(parsed(&[]), Ok(None));
    }

    #[test]
    fn a_socket_has_one_path_and_nothing_after_it() {
        assert_eq!(parsed(&["--socket", "/run/a"]), Ok(Some("/run/a".into())));
        for wrong in [&["--socket"] as &[_], &["--socket", "a", "b"], &["--sockets", "a"], &["a"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_socket_that_somebody_listens_at_is_not_taken_and_a_dead_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let first = listen(&path).unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        listen(&path).unwrap();
    }
}
