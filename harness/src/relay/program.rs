// SPDX-License-Identifier: Apache-2.0
//! The process itself: listens at ports, connects to an endpoint for each connection, and copies
//! bytes both ways. Run as `PROGRAM agent proxy`; it is told what to do on standard input and ends
//! with it.

use std::collections::HashMap;
use std::io::{self, BufRead, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use workloads::protocol::SAMPLE_TOS;

use super::Relay;
use super::balance::Balance;
use super::spec::{Command, Portal, Reply, Spec};
use crate::net::Cidr;

/// How long an endpoint may take to accept, try by try (`EndpointDialTimeouts`).
const DIAL_TIMEOUTS: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// Connections that wait to be accepted, at most; the kernel's `somaxconn` may be less.
const BACKLOG: u32 = 4096;
/// Bytes copied at a time in one direction of one connection.
const BUFFER: usize = 16 << 10;
/// Pairs of connections remembered until they are asked for.
const RELAYS: usize = 1 << 18;
/// Longest line on standard input, bytes.
const LINE: u64 = 256 << 20;
/// Descriptors wanted beyond those that listen: 512 connections and the process's own.
const SPARE: u64 = 1_100;

/// Runs the process until its standard input ends.
pub fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("failed to start the runtime: {error}")),
    };
    // This thread reads; the runtime's own threads carry.
    let context = runtime.enter();
    let outcome = Process::default().run();
    drop(context);
    // Connections that are still open end with the process.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("failed to talk to the harness: {error}")),
    }
}

fn fail(message: &str) -> ExitCode {
    // Nobody is left to tell if standard error is closed too.
    let _ = writeln!(io::stderr(), "{message}");
    ExitCode::FAILURE
}

/// Connections that were asked to be remembered.
#[derive(Debug, Default)]
struct Relays {
    kept: Vec<Relay>,
    not_kept: u64,
}

/// Endpoints of a port and how many connections each got.
type Carried = Arc<[(SocketAddr, AtomicU64)]>;

#[derive(Debug, Default)]
struct Process {
    ports: HashMap<u16, Carried>,
    relays: Arc<Mutex<Relays>>,
}

impl Process {
    fn run(mut self) -> io::Result<()> {
        let mut input = io::stdin().lock();
        let mut first = true;
        loop {
            let mut line = Vec::new();
            if (&mut input).take(LINE).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let command = if first {
                serde_json::from_slice(&line).map(Command::Open)
            } else {
                serde_json::from_slice(&line)
            };
            first = false;
            let reply = match command {
                Ok(command) => self.answer(command),
                Err(error) => Reply::Failed(format!("failed to read the line: {error}")),
            };
            let mut line = serde_json::to_vec(&reply)?;
            line.push(b'\n');
            let mut output = io::stdout().lock();
            output.write_all(&line)?;
            output.flush()?;
        }
    }

    fn answer(&mut self, command: Command) -> Reply {
        match command {
            Command::Open(spec) => match self.open(&spec) {
                Ok(()) => Reply::Listening(self.ports.len()),
                Err(message) => Reply::Failed(message),
            },
            Command::TakeRelays {} => {
                let mut relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner);
                let Relays { kept, not_kept } = std::mem::take(&mut *relays);
                Reply::Relays { relays: kept, not_kept }
            }
            Command::Count { listen_port } => match self.ports.get(&listen_port) {
                Some(carried) => Reply::Carried(
                    carried
                        .iter()
                        .map(|(to, count)| (*to, count.load(Ordering::Relaxed)))
                        .collect(),
                ),
                None => Reply::Failed(format!("no port {listen_port} is open")),
            },
        }
    }

    fn open(&mut self, spec: &Spec) -> Result<(), String> {
        raise_limit((self.ports.len() + spec.portals.len()) as u64)?;
        for portal in &spec.portals {
            let at = SocketAddr::new(Cidr::any(portal.family).address, portal.listen_port);
            let listener =
                listen(at).map_err(|error| format!("failed to listen at {at}: {error}"))?;
            let carried: Carried =
                portal.endpoints.iter().map(|to| (*to, AtomicU64::new(0))).collect();
            self.ports.insert(portal.listen_port, carried.clone());
            let dialer = Arc::new(Dialer::new(portal, carried));
            tokio::spawn(accept(listener, dialer, self.relays.clone(), portal.one_by_one));
        }
        Ok(())
    }
}

/// Makes room for so many listening sockets and some connections: up to the hard limit, and beyond
/// it where the process may (`CAP_SYS_RESOURCE`).
fn raise_limit(listening: u64) -> Result<(), String> {
    let needed = listening + SPARE;
    let failed = |errno: Errno| format!("failed to raise RLIMIT_NOFILE: {errno}");
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    let wanted = hard.max(needed);
    match setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted) {
        Err(Errno::EPERM) => Err(format!(
            "the hard limit of open files (RLIMIT_NOFILE) is {hard}, {listening} Service ports \
             need {needed}: raise it (ulimit -Hn, LimitNOFILE=) or ask for fewer Services"
        )),
        outcome => outcome.map_err(failed),
    }
}

fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = workloads::tcp_socket(at)?;
    socket.set_reuseaddr(true)?;
    // The port of the other family may be another process's.
    if at.is_ipv6() {
        SockRef::from(&socket).set_only_v6(true)?;
    }
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

/// Takes a port's connections. One by one, the next waits until this one's endpoint has accepted,
/// as in kube-proxy (`ProxyLoop`, with a TODO about it).
async fn accept(
    listener: TcpListener,
    dialer: Arc<Dialer>,
    relays: Arc<Mutex<Relays>>,
    one_by_one: bool,
) {
    loop {
        let (inbound, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                give_up_if_full(&error);
                continue;
            }
        };
        if one_by_one {
            if let Some(outbound) = join(&inbound, client, &dialer, &relays).await {
                tokio::spawn(carry(inbound, outbound));
            }
        } else {
            let (dialer, relays) = (dialer.clone(), relays.clone());
            tokio::spawn(async move {
                if let Some(outbound) = join(&inbound, client, &dialer, &relays).await {
                    carry(inbound, outbound).await;
                }
            });
        }
    }
}

/// Makes the connection to an endpoint that belongs to a client's, and remembers which it is. `None`
/// when there is nobody to connect to: the client finds its connection closed.
async fn join(
    inbound: &TcpStream,
    client: SocketAddr,
    dialer: &Dialer,
    relays: &Mutex<Relays>,
) -> Option<TcpStream> {
    // The kernel gives an accepted socket the SYN's byte where `tcp_reflect_tos` is set.
    let tos = workloads::service_type(inbound, client).unwrap_or(0);
    let (mut outbound, backend) = dialer.dial(client.ip(), tos).await?;
    if dialer.proxy_protocol
        && let Ok(asked) = inbound.local_addr()
    {
        outbound.write_all(&workloads::preamble(client, asked)).await.ok()?;
    }
    if tos == SAMPLE_TOS
        && let Ok(upstream) = outbound.local_addr()
    {
        let mut relays = relays.lock().unwrap_or_else(PoisonError::into_inner);
        if relays.kept.len() < RELAYS {
            relays.kept.push(Relay { client, upstream, backend });
        } else {
            relays.not_kept += 1;
        }
    }
    Some(outbound)
}

/// kube-proxy panics when it has no descriptor left; so does this, in a sentence.
fn give_up_if_full(error: &io::Error) {
    let errno = error.raw_os_error().map(Errno::from_raw);
    if matches!(errno, Some(Errno::EMFILE | Errno::ENFILE)) {
        fail(&format!("failed to take a connection: {error}; RLIMIT_NOFILE is too small"));
        std::process::exit(1);
    }
}

/// Connects to a port's endpoints.
#[derive(Debug)]
struct Dialer {
    balance: Mutex<Balance>,
    carried: Carried,
    proxy_protocol: bool,
}

impl Dialer {
    fn new(portal: &Portal, carried: Carried) -> Self {
        let proxy_protocol = portal.proxy_protocol;
        Self { balance: Mutex::new(Balance::new(portal)), carried, proxy_protocol }
    }

    async fn dial(&self, client: IpAddr, tos: u8) -> Option<(TcpStream, SocketAddr)> {
        for (attempt, patience) in DIAL_TIMEOUTS.into_iter().enumerate() {
            let (index, endpoint) = self.choose(client, attempt > 0)?;
            match tokio::time::timeout(patience, connect(endpoint, tos)).await {
                Ok(Ok(stream)) => {
                    self.carried[index].1.fetch_add(1, Ordering::Relaxed);
                    return Some((stream, endpoint));
                }
                Ok(Err(error)) => give_up_if_full(&error),
                Err(_elapsed) => {}
            }
        }
        None
    }

    fn choose(&self, client: IpAddr, afresh: bool) -> Option<(usize, SocketAddr)> {
        let mut balance = self.balance.lock().unwrap_or_else(PoisonError::into_inner);
        balance.choose(client, afresh, Instant::now())
    }
}

/// The socket is not bound: the kernel chooses the port together with the connection's other end,
/// so a port serves as many endpoints as there are. The byte has to be set before the SYN.
async fn connect(endpoint: SocketAddr, tos: u8) -> io::Result<TcpStream> {
    let socket = workloads::tcp_socket(endpoint)?;
    if tos != 0 {
        workloads::set_service_type(&socket, endpoint, tos)?;
    }
    let stream = socket.connect(endpoint).await?;
    // Go's default, and so kube-proxy's.
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn carry(mut inbound: TcpStream, mut outbound: TcpStream) {
    // Without it bytes flow as well, later.
    let _ = inbound.set_nodelay(true);
    let copied =
        tokio::io::copy_bidirectional_with_sizes(&mut inbound, &mut outbound, BUFFER, BUFFER);
    if copied.await.is_err() {
        // One side was reset. With a linger time of zero, closing resets the other, and neither
        // leaves a tuple in TIME_WAIT (`tcp_close` in net/ipv4/tcp.c).
        let _ = inbound.set_zero_linger();
        let _ = outbound.set_zero_linger();
    }
}
