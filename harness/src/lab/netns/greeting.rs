// SPDX-License-Identifier: Apache-2.0
//! One request of the harness's own, to see which pod answers before anything is measured.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::Duration;

use rustls::{ClientConnection, Stream};
use socket2::{Domain, Socket, Type};

use crate::certificates::Certificates;
use crate::lab::LabError;
use crate::net::Netns;

/// Patience with connect and with each read. Address resolution on every link of a new lab is
/// within it.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest response head read, bytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// A connection that was answered. It stays open, so that the kernel's tables still hold it when
/// the proof looks; dropped, it is reset, so that neither side keeps the tuple.
#[derive(Debug)]
pub(super) struct Greeting {
    /// Name of the pod that answered, by its own word.
    pub(super) pod: String,
    /// Whom that pod took for its client, by its own word.
    pub(super) peer: Option<SocketAddrV4>,
    head: String,
    _stream: TcpStream,
}

impl Greeting {
    /// Whether the pod saw the client's address, in words.
    pub(super) fn address_seen(&self, client: SocketAddrV4) -> Option<String> {
        let peer = self.peer?;
        Some(match peer.ip() == client.ip() {
            true => format!("{} saw {peer}: the client's address is kept", self.pod),
            false => format!("{} saw {peer}: the client's address is not kept", self.pod),
        })
    }
}

/// Sends `GET /bytes/0` for host `asked` from `source` on `host` to `destination`; with certificates by
/// TLS.
///
/// # Errors
/// [`LabError::Unreachable`] with what happened instead of an answer by a pod.
pub(super) fn greet(
    host: &Netns,
    source: SocketAddrV4,
    destination: SocketAddrV4,
    asked: &'static str,
    certificates: Option<&Certificates>,
) -> Result<Greeting, LabError> {
    let greeting = knock(host, source, destination, asked, certificates)?;
    if greeting.head.starts_with("HTTP/1.1 200") && !greeting.pod.is_empty() {
        return Ok(greeting);
    }
    Err(LabError::Unreachable {
        client: format!("{} ({source})", host.name()),
        target: destination.to_string(),
        found: format!("the answer {:?}", greeting.head),
    })
}

/// The same, whatever is answered: an ingress controller says itself that it does not know a host.
///
/// # Errors
/// [`LabError::Unreachable`] with what happened instead of an answer.
pub(super) fn knock(
    host: &Netns,
    source: SocketAddrV4,
    destination: SocketAddrV4,
    asked: &'static str,
    certificates: Option<&Certificates>,
) -> Result<Greeting, LabError> {
    let tls = certificates.map(Certificates::connection).transpose()?;
    let unreachable = |found: String| LabError::Unreachable {
        client: format!("{} ({source})", host.name()),
        target: destination.to_string(),
        found,
    };
    let (head, stream) = host
        .run(move || exchange(source, destination, asked, tls))
        .map_err(|error| unreachable(error.to_string()))?;
    let field = |wanted: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        let found = fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.trim().to_owned())
    };
    let pod = field("x-pod").unwrap_or_default();
    let peer = field("x-peer").and_then(|peer| peer.parse().ok());
    match head.starts_with("HTTP/1.1 ") {
        true => Ok(Greeting { pod, peer, head, _stream: stream }),
        false => Err(unreachable(format!("the answer {head:?}"))),
    }
}

fn exchange(
    source: SocketAddrV4,
    destination: SocketAddrV4,
    asked: &str,
    tls: Option<ClientConnection>,
) -> std::io::Result<(String, TcpStream)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&source.into())?;
    socket.connect_timeout(&destination.into(), PATIENCE)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut stream = TcpStream::from(socket);
    let head = match tls {
        Some(mut tls) => ask(&mut Stream::new(&mut tls, &mut stream), asked)?,
        None => ask(&mut stream, asked)?,
    };
    Ok((head, stream))
}

fn ask(stream: &mut (impl Read + Write), asked: &str) -> std::io::Result<String> {
    write!(stream, "GET /bytes/0 HTTP/1.1\r\nHost: {asked}\r\n\r\n")?;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        head.extend_from_slice(&buffer[..read]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
