// SPDX-License-Identifier: Apache-2.0
//! A connection to the target: opened from a tuple of ours, driven in the task that uses it, and
//! ended with a RST.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;

use super::exchange::Template;
use super::failure::Failure;
use super::resolve::Resolver;
use super::tls::Tls;
use super::tuples::Tuples;
use super::websocket::Talk;
use crate::body::Fill;
use crate::clock::now_ns;
use crate::protocol::{Lookup, Protocol, SAMPLE_TOS};
use crate::set_service_type;
use crate::tcp_socket;
use crate::wire::{Carried, Direction, Observe, Observed, Start};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// What takes requests: hyper's half for that, or all of a connection of WebSocket.
pub(super) enum Sender {
    Http1(http1::SendRequest<Fill>),
    Http2(http2::SendRequest<Fill>),
    WebSocket(Box<Talk>),
}

/// An open connection. Dropping it drops the socket, and SO_LINGER of zero makes that a RST:
/// neither side is left in TIME_WAIT (`net/ipv4/tcp.c`, `__tcp_close`).
pub(super) struct Link {
    pub(super) sender: Sender,
    /// hyper's half that reads and writes, where there is one, until the connection has ended.
    pub(super) driver: Option<Task>,
    pub(super) wire: Rc<RefCell<Wire>>,
    /// Its source.
    pub(super) client: SocketAddr,
    /// Whether its requests are reported as samples.
    pub(super) sampled: bool,
    /// When resolving began, nanoseconds, where a name was resolved for it.
    pub(super) resolve_ns: Option<u64>,
    /// The queries of that, where it is sampled.
    pub(super) lookups: Vec<Lookup>,
    /// When `connect()` was called, nanoseconds.
    pub(super) connect_ns: u64,
    /// When the connection was there, nanoseconds.
    pub(super) connected_ns: u64,
    /// Its TLS handshake, where there was one.
    pub(super) handshake: Option<Handshake>,
    /// When its upgrade was answered, nanoseconds, where there was one.
    pub(super) upgraded_ns: Option<u64>,
}

/// A handshake that was completed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handshake {
    /// When it was over, nanoseconds.
    pub(super) secured_ns: u64,
    /// Whether a session was resumed.
    pub(super) resumed: bool,
}

/// How far the opening of a connection came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Opening {
    /// Its name is being resolved.
    Resolving,
    /// It is being connected.
    #[default]
    Connecting,
    /// It is connected; hands may still have to be shaken.
    Connected,
    /// Its upgrade is asked for.
    Upgrading,
}

/// What is the same in all connections of a phase.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way<'a> {
    pub(super) target: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) template: &'a Template,
    pub(super) resolver: Option<&'a Resolver>,
    pub(super) tls: Option<&'a Tls>,
    pub(super) tuples: &'a RefCell<Tuples>,
}

/// What the socket's reads and writes have shown.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) written: Direction,
    pub(super) read: Direction,
    /// How the stream ended, once it has.
    pub(super) end: Option<Failure>,
    writing_ns: u64,
    /// When the last read that returned bytes did.
    pub(super) read_ns: u64,
}

impl Wire {
    fn new(protocol: Protocol) -> Self {
        let (written, read) = match protocol {
            Protocol::Http1 | Protocol::WebSocket => (Direction::http1(), Direction::http1()),
            Protocol::Http2 | Protocol::Grpc => {
                (Direction::http2_client(), Direction::http2_server())
            }
        };
        Self { written, read, end: None, writing_ns: 0, read_ns: 0 }
    }
}

impl Observe for Rc<RefCell<Wire>> {
    // A FIN of ours after the server's would put the server's socket in TIME_WAIT.
    const SENDS_FIN: bool = false;

    fn read(&mut self, bytes: &[u8], arrived: Option<Start>) {
        let mut wire = self.borrow_mut();
        if bytes.is_empty() {
            wire.end = wire.end.or(Some(Failure::Closed));
            return;
        }
        let at_ns = now_ns();
        wire.read_ns = at_ns;
        // A message has begun when its bytes were there, and is complete when they were decrypted.
        let began_ns = arrived.map_or(at_ns, |record| record.at_ns);
        wire.read.pass(bytes, began_ns, arrived.map(|record| record.offset));
    }

    fn writing(&mut self) {
        let mut wire = self.borrow_mut();
        if wire.written.is_awaited() {
            wire.writing_ns = now_ns();
        }
    }

    fn written(&mut self, bytes: &[u8], offset: Option<u64>) {
        let mut wire = self.borrow_mut();
        let at_ns = wire.writing_ns;
        wire.written.pass(bytes, at_ns, offset);
    }

    fn failed(&mut self, error: &io::Error) {
        let mut wire = self.borrow_mut();
        wire.end = wire.end.or(Some(Failure::of_stream(error)));
    }
}

impl Link {
    /// Opens a connection from the next tuple that is free; a tuple some other socket of the host
    /// has is passed over, and spent all the same. `opening` tells how far it came.
    pub(super) async fn open(
        way: Way<'_>,
        sampled: bool,
        opening: &Cell<Opening>,
    ) -> Result<Self, Failure> {
        let Way { target, protocol, resolver, tls, tuples, .. } = way;
        let (mut resolve_ns, mut lookups) = (None, Vec::new());
        let (stream, client, connect_ns) = loop {
            let tuple = tuples.borrow_mut().next();
            let client = tuple.ok_or(Failure::TuplesExhausted)?;
            let socket = match socket(client, sampled) {
                Ok(socket) => socket,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => continue,
                Err(_) => return Err(Failure::Other),
            };
            // With a socket at hand: the answer is followed by `connect()`, and nothing is between them.
            if let (Some(resolver), None) = (resolver, resolve_ns) {
                resolve_ns = Some(now_ns());
                opening.set(Opening::Resolving);
                lookups = resolver.resolve(sampled).await?;
                opening.set(Opening::Connecting);
            }
            let connect_ns = now_ns();
            match socket.connect(target).await {
                Ok(stream) => break (stream, client, connect_ns),
                // The bound tuple is in use towards this very target: `__inet_check_established`.
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
                Err(error) => return Err(Failure::of_connect(&error)),
            }
        };
        let connected_ns = now_ns();
        opening.set(Opening::Connected);
        let wire = Rc::new(RefCell::new(Wire::new(protocol)));
        let (begun, handshake) = match tls {
            None => (begin(&way, stream, &wire, opening).await?, None),
            Some(tls) => {
                let secured = tls.secure(stream, protocol).await?;
                let handshake = Handshake { secured_ns: now_ns(), resumed: secured.resumed };
                (begin(&way, secured.stream, &wire, opening).await?, Some(handshake))
            }
        };
        let Begun { sender, driver, upgraded_ns } = begun;
        Ok(Self {
            sender,
            driver,
            wire,
            client,
            sampled,
            resolve_ns,
            lookups,
            connect_ns,
            connected_ns,
            handshake,
            upgraded_ns,
        })
    }

    /// Why it ended.
    pub(super) fn end(&self) -> Failure {
        let said = match &self.sender {
            Sender::WebSocket(talk) => talk.end(),
            Sender::Http1(_) | Sender::Http2(_) => None,
        };
        said.unwrap_or_else(|| end(&self.wire))
    }

    /// When it was connected, and secured where it is, nanoseconds.
    pub(super) fn opened_ns(&self) -> u64 {
        self.handshake.map_or(self.connected_ns, |handshake| handshake.secured_ns)
    }

    /// Reads and writes what there is.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        match &mut self.sender {
            Sender::WebSocket(talk) => talk.attend(cx),
            Sender::Http1(_) | Sender::Http2(_) => drive(&mut self.driver, cx),
        }
    }

    /// Whether a request can be sent on it, as far as is known without asking the kernel.
    pub(super) fn is_open(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => self.driver.is_some() && sender.is_ready(),
            Sender::Http2(sender) => self.driver.is_some() && sender.is_ready(),
            Sender::WebSocket(talk) => talk.is_open(),
        }
    }

    /// Waits until the exchange before is over for hyper too, if it is hyper's, and returns whether the connection
    /// can be used again.
    pub(super) async fn settle(&mut self) -> bool {
        poll_fn(|cx| {
            self.drive(cx);
            match &mut self.sender {
                Sender::Http1(sender) => sender.poll_ready(cx),
                Sender::Http2(sender) => sender.poll_ready(cx),
                Sender::WebSocket(_) => Poll::Ready(Ok(())),
            }
        })
        .await
        .is_ok()
            && self.is_open()
    }

    /// Waits until the other side has said something, as HTTP/2 servers do unasked (RFC 9113
    /// section 3.4), or the connection has ended.
    pub(super) async fn greeted(&mut self) {
        poll_fn(|cx| {
            self.drive(cx);
            let heard = self.wire.borrow().read.bytes() > 0;
            if heard || self.driver.is_none() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// [`Link::drive`] for one whose sender is borrowed.
pub(super) fn drive(driver: &mut Option<Task>, cx: &mut Context<'_>) {
    if let Some(task) = driver
        && task.as_mut().poll(cx).is_ready()
    {
        *driver = None;
    }
}

/// A socket bound to its source and not yet connected.
fn socket(client: SocketAddr, sampled: bool) -> io::Result<TcpSocket> {
    let socket = tcp_socket(client)?;
    socket.set_zero_linger()?;
    socket.set_nodelay(true)?;
    if sampled {
        // Before the SYN, so that the server's kernel can reflect it (net.ipv4.tcp_reflect_tos).
        set_service_type(&socket, client, SAMPLE_TOS)?;
    }
    socket.bind(client)?;
    Ok(socket)
}

/// A connection as requests can be sent on it.
struct Begun {
    sender: Sender,
    driver: Option<Task>,
    upgraded_ns: Option<u64>,
}

/// Begins what is spoken on a connection that is there.
async fn begin<S: Carried + 'static>(
    way: &Way<'_>,
    stream: S,
    wire: &Rc<RefCell<Wire>>,
    opening: &Cell<Opening>,
) -> Result<Begun, Failure> {
    let stream = Observed::new(stream, wire.clone());
    if way.protocol == Protocol::WebSocket {
        opening.set(Opening::Upgrading);
        let talk = Talk::begin(stream, way.template).await;
        let talk = talk.map_err(|failure| failure.unwrap_or_else(|| end(wire)))?;
        let upgraded_ns = Some(now_ns());
        return Ok(Begun { sender: Sender::WebSocket(Box::new(talk)), driver: None, upgraded_ns });
    }
    // Only HTTP/2 writes here, its preface.
    let shaken = shake_hands(way.protocol, stream).await;
    let Ok((sender, driver)) = shaken else { return Err(end(wire)) };
    Ok(Begun { sender, driver: Some(driver), upgraded_ns: None })
}

/// Why a connection ended.
fn end(wire: &RefCell<Wire>) -> Failure {
    wire.borrow().end.unwrap_or(Failure::Other)
}

async fn shake_hands<S: Carried + 'static>(
    protocol: Protocol,
    stream: Observed<S, Rc<RefCell<Wire>>>,
) -> hyper::Result<(Sender, Task)> {
    let io = TokioIo::new(stream);
    match protocol {
        Protocol::Http1 | Protocol::WebSocket => {
            let (sender, connection) = http1::handshake(io).await?;
            // How it ends is seen by the wire and by the request's own future.
            let driver = Box::pin(async { drop(connection.await) });
            Ok((Sender::Http1(sender), driver))
        }
        Protocol::Http2 | Protocol::Grpc => {
            let spawned = Rc::new(RefCell::new(Vec::new()));
            let (sender, mut connection) =
                http2::handshake(Spawner(Rc::downgrade(&spawned)), io).await?;
            let mut tasks: Vec<Task> = Vec::new();
            let driver = poll_fn(move |cx| {
                let ended = Pin::new(&mut connection).poll(cx).is_ready();
                tasks.retain_mut(|task| task.as_mut().poll(cx).is_pending());
                loop {
                    // Taken before they are polled: a task may spawn another.
                    let new = std::mem::take(&mut *spawned.borrow_mut());
                    if new.is_empty() {
                        break;
                    }
                    tasks.extend(new.into_iter().filter_map(|mut task: Task| {
                        task.as_mut().poll(cx).is_pending().then_some(task)
                    }));
                }
                if ended { Poll::Ready(()) } else { Poll::Pending }
            });
            Ok((Sender::Http2(sender), Box::pin(driver)))
        }
    }
}

/// Keeps what hyper wants spawned beside the connection, so that the connection's task polls it
/// and dropping the connection drops it. Weak, because those futures hold a spawner too.
#[derive(Clone)]
struct Spawner(Weak<RefCell<Vec<Task>>>);

impl<F: Future<Output = ()> + 'static> Executor<F> for Spawner {
    fn execute(&self, future: F) {
        if let Some(spawned) = self.0.upgrade() {
            spawned.borrow_mut().push(Box::pin(future));
        }
    }
}
