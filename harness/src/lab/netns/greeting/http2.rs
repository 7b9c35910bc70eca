// SPDX-License-Identifier: Apache-2.0
//! A request over HTTP/2, with prior knowledge.

use std::io;
use std::net::TcpStream;

use hyper::client::conn::http2;
use hyper::{Request, Response, Version};
use hyper_util::rt::TokioIo;
use tokio::task::LocalSet;
use workloads::Local;

use super::PATIENCE;

/// Asks, and returns the head of the answer as HTTP/1.1 would have it. Nothing ends the connection as long as
/// `stream` is there.
///
/// # Errors
/// There is no answer in time.
pub(super) async fn ask(stream: &TcpStream, asked: &str) -> io::Result<String> {
    let again = stream.try_clone()?;
    again.set_nonblocking(true)?;
    let again = tokio::net::TcpStream::from_std(again)?;
    // What hyper spawns ends with it, and says no word of farewell.
    let tasks = LocalSet::new();
    let answer = tasks.run_until(tokio::time::timeout(PATIENCE, answer(again, asked))).await;
    let answer = answer.map_err(|_elapsed| io::ErrorKind::TimedOut)??;
    let fields = answer
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes())));
    Ok(format!("HTTP/1.1 {}\r\n{}\r\n", answer.status(), fields.collect::<String>()))
}

async fn answer(stream: tokio::net::TcpStream, asked: &str) -> io::Result<Response<()>> {
    let mut request = Request::new(String::new());
    *request.uri_mut() = format!("http://{asked}/bytes/0").parse().map_err(io::Error::other)?;
    *request.version_mut() = Version::HTTP_2;
    let shaken = http2::handshake(Local, TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(io::Error::other)?;
    tokio::select! {
        answer = sender.send_request(request) => {
            answer.map(|answer| answer.map(drop)).map_err(io::Error::other)
        }
        ended = connection => {
            Err(ended.map_or_else(io::Error::other, |()| io::ErrorKind::ConnectionAborted.into()))
        }
    }
}
