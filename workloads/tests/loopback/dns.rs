// SPDX-License-Identifier: Apache-2.0
//! A client that resolves: what it asks, in which order, and what becomes of answers of every kind.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use workloads::protocol::{
    Connection, DnsReply, DnsService, DnsSpec, LoadResolve, LoadSpec, PhaseReport, Queries,
};

use crate::agents::{Load, Target};
use crate::workload::{address, only_error, place, requests, spec};

const NAME: &str = "web.default.svc.cluster.local";
const SEARCH: [&str; 3] = ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"];

/// What the rogue server sends back to a query: datagrams.
type Talk = fn(&Message, SocketAddr) -> Vec<Vec<u8>>;

/// A server of names that says what a test wants it to.
struct Rogue {
    at: SocketAddr,
    /// Questions in the order in which they came, and who asked.
    heard: Arc<Mutex<Vec<(String, RecordType, SocketAddr)>>>,
}

impl Rogue {
    fn new(target: SocketAddr, talk: Talk) -> Self {
        let at = SocketAddr::new(address(), 5353);
        let socket = UdpSocket::bind(at).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let noted = heard.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                let query = Message::from_vec(&buffer[..length]).unwrap();
                let question = &query.queries[0];
                let asked = (question.name().to_string(), question.query_type(), from);
                noted.lock().unwrap().push(asked);
                for answer in talk(&query, target) {
                    socket.send_to(&answer, from).unwrap();
                }
            }
        });
        Self { at, heard }
    }

    fn heard(&self) -> Vec<(String, RecordType, SocketAddr)> {
        self.heard.lock().unwrap().clone()
    }
}

fn response(query: &Message, code: ResponseCode) -> Message {
    let mut response = query.clone();
    response.metadata.message_type = MessageType::Response;
    response.metadata.response_code = code;
    response
}

/// As the cluster's server answers.
fn truly(query: &Message, target: SocketAddr) -> Message {
    let question = &query.queries[0];
    if question.name().to_string() != format!("{NAME}.") {
        return response(query, ResponseCode::NXDomain);
    }
    let mut answer = response(query, ResponseCode::NoError);
    if question.query_type() == RecordType::A
        && let IpAddr::V4(address) = target.ip()
    {
        let data = RData::A(A(address));
        answer.add_answer(Record::from_rdata(question.name().clone(), 5, data));
    }
    answer
}

fn bytes(messages: impl IntoIterator<Item = Message>) -> Vec<Vec<u8>> {
    messages.into_iter().map(|message| message.to_vec().unwrap()).collect()
}

fn resolving(target: SocketAddr, server: SocketAddr) -> LoadSpec {
    let resolve = LoadResolve {
        server,
        name: NAME.to_owned(),
        search: SEARCH.map(str::to_owned).to_vec(),
        ndots: 5,
        address: target.ip(),
    };
    let resolve = Some(resolve);
    LoadSpec { connection: Connection::Newconn, resolve, ..spec(target) }
}

/// The report of six requests whose names a rogue server resolves, none answered.
fn failing(talk: Talk, timeout_ms: u64) -> PhaseReport {
    let at = place();
    let _target = Target::listen(at);
    let rogue = Rogue::new(at, talk);
    Load::new(&LoadSpec { timeout_ms, ..resolving(at, rogue.at) }).run(&requests(6))
}

#[test]
fn the_search_path_is_asked_in_its_order_with_both_kinds_from_one_socket_each() {
    let at = place();
    let _target = Target::listen(at);
    let rogue = Rogue::new(at, |query, target| bytes([truly(query, target)]));
    let report = Load::new(&resolving(at, rogue.at)).run(&requests(1));
    assert_eq!((report.requests, report.errors.len()), (1, 0), "{:?}", report.errors);

    let heard = rogue.heard();
    assert_eq!(heard.len(), 8);
    let names: Vec<_> = heard.chunks(2).map(|both| both[0].0.as_str()).collect();
    let searched = SEARCH.map(|domain| format!("{NAME}.{domain}."));
    assert_eq!(names[..3], searched.each_ref().map(String::as_str));
    assert_eq!(names[3], format!("{NAME}."));
    for both in heard.chunks(2) {
        assert_eq!(both[0].0, both[1].0);
        assert_eq!([both[0].1, both[1].1], [RecordType::A, RecordType::AAAA]);
        assert_eq!(both[0].2, both[1].2, "from one socket");
    }
    let mut sources: Vec<_> = heard.iter().map(|(_, _, from)| *from).collect();
    sources.sort();
    sources.dedup();
    assert_eq!(sources.len(), 4, "a socket for each name: {sources:?}");
    let queries = Queries { asked: 8, addresses: 1, no_data: 1, nxdomain: 6, ..Queries::default() };
    assert_eq!(report.queries, queries);
}

#[test]
fn a_request_begins_with_the_first_query_and_what_is_before_connect_is_dns() {
    let at = place();
    let _target = Target::listen(at);
    let rogue = Rogue::new(at, |query, target| bytes([truly(query, target)]));
    let report = Load::new(&resolving(at, rogue.at)).run(&requests(50));
    assert_eq!(report.requests, 50, "{:?}", report.errors);
    assert_eq!(report.dns.iter().map(|pair| pair.1).sum::<u64>(), 50);
    assert_eq!(report.samples.len(), 50);
    for sample in &report.samples {
        let (resolve_ns, connect_ns) = (sample.resolve_ns.unwrap(), sample.connect_ns.unwrap());
        assert!(sample.intended_ns <= resolve_ns && resolve_ns < connect_ns);
    }
    assert_eq!(report.lookups.len(), 4 * 50);
    for (four, sample) in report.lookups.chunks(4).zip(&report.samples) {
        let ends = four.iter().flat_map(|lookup| lookup.answered_ns);
        assert!(ends.max().unwrap() <= sample.connect_ns.unwrap());
        assert!(sample.resolve_ns.unwrap() <= four[0].sent_ns[0]);
        assert!(four.iter().all(|one| one.ids[0] != one.ids[1]));
    }
    // A source is used once: neither by two names nor by two requests.
    let mut sources: Vec<_> = rogue.heard().iter().map(|(_, _, from)| *from).collect();
    sources.sort();
    sources.dedup();
    assert_eq!(sources.len(), 4 * 50);
}

#[test]
fn answers_that_were_not_asked_for_are_ignored_and_counted() {
    let at = place();
    let _target = Target::listen(at);
    let rogue = Rogue::new(at, |query, target| {
        let right = truly(query, target);
        let (mut id, mut question) = (right.clone(), right.clone());
        id.metadata.id = !id.metadata.id;
        question.queries[0].set_query_type(RecordType::TXT);
        let mut all = bytes([id, question, query.clone()]);
        all.extend([b"no message".to_vec(), Vec::new()]);
        all.extend(bytes([right]));
        all
    });
    let report = Load::new(&resolving(at, rogue.at)).run(&requests(1));
    assert_eq!((report.requests, report.queries.asked), (1, 8), "{:?}", report.errors);
    assert!(report.queries.ignored >= 5 * 4, "{:?}", report.queries);
    assert_eq!((report.queries.addresses, report.queries.nxdomain), (1, 6));
}

#[test]
fn failures_have_their_kinds() {
    let with = |code| {
        let kind: Talk = match code {
            ResponseCode::NXDomain => |query, _| bytes([response(query, ResponseCode::NXDomain)]),
            ResponseCode::ServFail => |query, _| bytes([response(query, ResponseCode::ServFail)]),
            ResponseCode::Refused => |query, _| bytes([response(query, ResponseCode::Refused)]),
            ResponseCode::NoError => |query, _| bytes([response(query, ResponseCode::NoError)]),
            _ => |query, _| bytes([response(query, ResponseCode::FormErr)]),
        };
        failing(kind, 30_000)
    };
    let nxdomain = with(ResponseCode::NXDomain);
    assert_eq!(only_error(&nxdomain), "dns_nxdomain");
    assert_eq!((nxdomain.queries.asked, nxdomain.queries.nxdomain), (6 * 8, 6 * 8));
    assert_eq!(only_error(&with(ResponseCode::NoError)), "dns_nxdomain");
    let servfail = with(ResponseCode::ServFail);
    assert_eq!(only_error(&servfail), "dns_servfail");
    assert_eq!((servfail.queries.asked, servfail.queries.failed), (6 * 8, 6 * 8));
    let refused = with(ResponseCode::Refused);
    assert_eq!(only_error(&refused), "dns_refused");
    assert_eq!(refused.queries.asked, 6 * 2, "nothing else is asked then");
    assert_eq!(only_error(&with(ResponseCode::FormErr)), "dns_other");

    let elsewhere: Talk = |query, _| {
        let other = SocketAddr::new(IpAddr::from([127, 9, 9, 9]), 80);
        bytes([truly(query, other)])
    };
    assert_eq!(only_error(&failing(elsewhere, 30_000)), "dns_address");
    let silent = failing(|_, _| Vec::new(), 60);
    assert_eq!(only_error(&silent), "dns_timeout");
    let only_a: Talk = |query, target| match query.queries[0].query_type() {
        RecordType::A => bytes([truly(query, target)]),
        _ => Vec::new(),
    };
    assert_eq!(only_error(&failing(only_a, 60)), "dns_timeout");

    let at = place();
    let _target = Target::listen(at);
    let nobody = resolving(at, SocketAddr::new(address(), 5353));
    assert_eq!(only_error(&Load::new(&nobody).run(&requests(6))), "dns_unreachable");
}

#[test]
fn a_spec_that_cannot_be_asked_for_is_refused() {
    let refused = |spec: LoadSpec| workloads::load::Generator::new(spec).unwrap_err().to_string();
    let at = place();
    let mut long = resolving(at, at);
    long.resolve.as_mut().unwrap().name = "x".repeat(64);
    assert!(refused(long).contains("is no name"));
    let kept = LoadSpec { connection: Connection::Keepalive, ..resolving(at, at) };
    assert!(refused(kept).contains("`resolve` is of new connections"));
}

/// The server of names, on a thread; it ends with its input.
struct Server {
    input: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(spec: &DnsSpec) -> (Self, DnsReply) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || {
            let input = BufReader::new(theirs.try_clone().unwrap());
            workloads::dns::run(input, theirs).unwrap();
        });
        writeln!(&ours, "{}", serde_json::to_string(spec).unwrap()).unwrap();
        let mut line = String::new();
        BufReader::new(&ours).read_line(&mut line).unwrap();
        let server = Self { input: Some(ours), thread: Some(thread) };
        (server, serde_json::from_str(&line).unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.input.take();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serving(listen: SocketAddr, target: SocketAddr) -> DnsSpec {
    DnsSpec {
        listen: vec![listen],
        domain: "cluster.local".to_owned(),
        services: vec![DnsService {
            name: "web".to_owned(),
            namespace: "default".to_owned(),
            addresses: vec![target.ip()],
        }],
    }
}

#[test]
fn the_server_answers_the_client_with_the_mark_it_asked_with() {
    let at = place();
    let _target = Target::listen(at);
    let listen = SocketAddr::new(address(), 5353);
    let (server, ready) = Server::start(&serving(listen, at));
    assert_eq!(ready, DnsReply::Ready);
    let report = Load::new(&resolving(at, listen)).run(&requests(200));
    assert_eq!(report.requests, 200, "{:?}", report.errors);
    let Queries { asked, addresses, no_data, nxdomain, .. } = report.queries;
    assert_eq!((asked, addresses, no_data, nxdomain), (1600, 200, 200, 1200));

    let found = workloads::dns::lookup(
        SocketAddr::new(address(), 0),
        listen,
        NAME,
        std::time::Duration::from_secs(30),
    );
    assert_eq!(found.unwrap(), at.ip());
    drop(server);
}

#[test]
fn the_server_says_which_address_it_cannot_have() {
    let at = place();
    let taken = UdpSocket::bind(at).unwrap();
    let (_server, failed) = Server::start(&serving(at, at));
    let DnsReply::Failed(reason) = failed else { panic!("{failed:?}") };
    assert!(reason.starts_with(&format!("failed to listen at {at}")), "{reason}");
    drop(taken);
}
