// SPDX-License-Identifier: Apache-2.0
//! One request of the harness's own, to see which pod answers before anything is measured.

mod http2;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
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
    pub(super) peer: Option<SocketAddr>,
    head: String,
    _stream: TcpStream,
}

impl Greeting {
    /// Whether the pod saw the client's address, in words.
    pub(super) fn address_seen(&self, client: SocketAddr) -> Option<String> {
        let peer = self.peer?;
        Some(match peer.ip() == client.ip() {
            true => format!("{} saw {peer}: the client's address is kept", self.pod),
            false => format!("{} saw {peer}: the client's address is not kept", self.pod),
        })
    }
}

/// How a connection of the harness's own introduces itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner<'a> {
    /// Host that is asked for.
    pub(super) asked: &'static str,
    /// The same by TLS, where it has a name of its own there.
    pub(super) name: &'static str,
    /// Whether the PROXY protocol's preamble comes first: no proxy is there to say it.
    pub(super) preamble: bool,
    /// Whether HTTP/2 is spoken without TLS, at a port that knows nothing else.
    pub(super) http2: bool,
    /// By TLS, with certificates.
    pub(super) certificates: Option<&'a Certificates>,
}

/// Sends `GET /bytes/0` from `source` on `host` to `destination`.
///
/// # Errors
/// [`LabError::Unreachable`] with what happened instead of an answer by a pod.
pub(super) fn greet(
    host: &Netns,
    source: SocketAddr,
    destination: SocketAddr,
    manner: Manner<'_>,
) -> Result<Greeting, LabError> {
    let greeting = knock(host, source, destination, manner)?;
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
    source: SocketAddr,
    destination: SocketAddr,
    manner: Manner<'_>,
) -> Result<Greeting, LabError> {
    let Manner { asked, name, preamble, http2, certificates } = manner;
    let tls = certificates.map(|certificates| certificates.connection(name)).transpose()?;
    let unreachable = |found: String| LabError::Unreachable {
        client: format!("{} ({source})", host.name()),
        target: destination.to_string(),
        found,
    };
    let (head, stream) = host
        .block_on(move || exchange(source, destination, (asked, preamble, http2), tls))
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

/// Makes a connection and says nothing on it.
///
/// # Errors
/// [`LabError::Unreachable`] with what happened instead.
pub(super) fn hold(
    host: &Netns,
    source: SocketAddr,
    destination: SocketAddr,
) -> Result<Greeting, LabError> {
    let stream = host.run(move || connect(source, destination)).map_err(|error| {
        let client = format!("{} ({source})", host.name());
        LabError::Unreachable { client, target: destination.to_string(), found: error.to_string() }
    })?;
    Ok(Greeting { pod: String::new(), peer: None, head: String::new(), _stream: stream })
}

fn connect(source: SocketAddr, destination: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(destination), Type::STREAM, None)?;
    socket.bind(&source.into())?;
    socket.connect_timeout(&destination.into(), PATIENCE)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(TcpStream::from(socket))
}

/// Nothing else waits for the host's thread, and so it may block.
async fn exchange(
    source: SocketAddr,
    destination: SocketAddr,
    (asked, preamble, http2): (&str, bool, bool),
    tls: Option<ClientConnection>,
) -> std::io::Result<(String, TcpStream)> {
    let mut stream = connect(source, destination)?;
    if preamble {
        stream.write_all(&workloads::preamble(source, destination))?;
    }
    let head = match tls {
        Some(mut tls) => ask(&mut Stream::new(&mut tls, &mut stream), asked)?,
        None if http2 => http2::ask(&stream, asked).await?,
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
