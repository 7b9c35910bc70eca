// SPDX-License-Identifier: Apache-2.0
//! Answers requests on a thread that lives in a node's namespace.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::body::Answer;
use super::query::Query;
use super::resource::Resource;
use super::store::Store;
use crate::net::Netns;
use crate::proxy::{Service, ServiceTable};

/// Connections at a time: a kube-proxy has one for each kind of object that it watches.
const CONNECTIONS_MAX: usize = 64;
/// Longest body of a request that is read, bytes.
const BODY_MAX: usize = 256 * 1024;
/// How long a request's head, and its body, may be on their way.
const REQUEST_PATIENCE: Duration = Duration::from_secs(20);
/// Lines that wait for a client to read them.
const LINES_WAITING: usize = 16;
/// Requests that were refused and are remembered.
const REFUSED_MAX: usize = 32;
/// Annotation of the bookmark that ends what a watch begins with (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// An API server on a node's loopback. It ends when this is dropped.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    events: AtomicU64,
    /// What could not be answered, for whoever wants to know why a client does not get on.
    refused: Mutex<Vec<String>>,
}

impl ApiServer {
    /// Serves a table on a node's loopback, at a port of the kernel's choice; `name` and `address` are the
    /// node's.
    ///
    /// # Errors
    /// The system has no socket or no thread for it.
    pub fn start(
        netns: &Netns,
        table: &ServiceTable,
        name: &str,
        address: IpAddr,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            store: Store::new(table, name, address),
            events: AtomicU64::new(0),
            refused: Mutex::default(),
        });
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let title = format!("api {name}");
        // The thread is started from the namespace's own, and so is in it.
        let (address, thread) = netns.run(move || -> io::Result<_> {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = std::thread::Builder::new().name(title).spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = serve(listener, serving) => {}
                        _ = stopped => {}
                    }
                });
            })?;
            Ok((address, thread))
        })?;
        Ok(Self { address, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds a Service, and tells those who watch.
    pub fn add(&self, service: Service) {
        self.shared.store.add(service);
    }

    /// Events that were posted, and dropped.
    pub fn events(&self) -> u64 {
        self.shared.events.load(Ordering::Relaxed)
    }

    /// Requests that it had no answer to, the first few, with the reason.
    pub fn refused(&self) -> Vec<String> {
        self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        // A connection that is gone before it was taken is its client's business.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_PATIENCE)
                .serve_connection(TokioIo::new(stream), service);
            let _ = served.await;
            drop(permit);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Answer>, Infallible> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let asked = format!("{method} {}", request.uri());
    let outcome = match method {
        Method::GET if !accepts_json(&request) => {
            Err((StatusCode::NOT_ACCEPTABLE, "answers are in JSON".to_owned()))
        }
        Method::GET => get(&path, request.uri().query().unwrap_or_default(), &shared),
        Method::POST if path.ends_with("/events") => took_event(request, &shared).await,
        _ => Err((StatusCode::NOT_FOUND, format!("nothing is known of {path}"))),
    };
    Ok(outcome.unwrap_or_else(|(status, problem)| {
        let mut refused = shared.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < REFUSED_MAX {
            refused.push(format!("{asked}: {problem}"));
        }
        json_answer(
            status,
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": problem, "code": status.as_u16(),
                "reason": if status == StatusCode::NOT_FOUND { "NotFound" } else { "BadRequest" },
            })
            .to_string(),
        )
    }))
}

type Outcome = Result<Response<Answer>, (StatusCode, String)>;

fn accepts_json(request: &Request<Incoming>) -> bool {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_none_or(|accept| accept.contains("application/json") || accept.contains("*/*"))
}

fn json_answer(status: StatusCode, text: String) -> Response<Answer> {
    let mut response = Response::new(Answer::whole(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

fn get(path: &str, query: &str, shared: &Arc<Shared>) -> Outcome {
    if path == "/version" {
        // What a client makes of it is no more than a line in its log.
        let version = json!({ "major": "1", "minor": "33", "gitVersion": "v1.33.0-nic2pod" });
        return Ok(json_answer(StatusCode::OK, version.to_string()));
    }
    let Some((resource, name)) = Resource::at(path) else {
        return Err((StatusCode::NOT_FOUND, format!("nothing is known of {path}")));
    };
    let query = Query::parse(query).map_err(|problem| (StatusCode::BAD_REQUEST, problem))?;
    match name {
        None if query.watch => Ok(watched(resource, query, Arc::clone(shared))),
        None => Ok(json_answer(StatusCode::OK, list(resource, &query, &shared.store))),
        Some(name) => {
            let (objects, _) = shared.store.above(0, resource, &query.selection);
            let one = objects.into_iter().find(|object| object["metadata"]["name"] == name);
            one.map(|object| json_answer(StatusCode::OK, object.to_string()))
                .ok_or_else(|| (StatusCode::NOT_FOUND, format!("there is no {path}")))
        }
    }
}

/// All objects there are, whatever version was asked for: it is as new as any.
fn list(resource: Resource, query: &Query, store: &Store) -> String {
    let (items, version) = store.above(0, resource, &query.selection);
    json!({
        "kind": format!("{}List", resource.kind()),
        "apiVersion": resource.api_version(),
        "metadata": { "resourceVersion": version.to_string() },
        "items": items,
    })
    .to_string()
}

fn watched(resource: Resource, query: Query, shared: Arc<Shared>) -> Response<Answer> {
    let (lines, waiting) = mpsc::channel(LINES_WAITING);
    let lasts = query.lasts;
    tokio::spawn(async move {
        // The client reads on, or has gone: both end it.
        let _ = tokio::time::timeout(lasts, tell(resource, query, shared, lines)).await;
    });
    let mut response = json_answer(StatusCode::OK, String::new());
    *response.body_mut() = Answer::Lines(waiting);
    response
}

/// Tells of objects as they come, until nobody listens. `None` at the end.
async fn tell(
    resource: Resource,
    query: Query,
    shared: Arc<Shared>,
    lines: mpsc::Sender<Bytes>,
) -> Option<Infallible> {
    let mut newest = shared.store.newest();
    let mut above = query.above.unwrap_or(0);
    let mut first = query.initial_events;
    loop {
        newest.borrow_and_update();
        let (objects, version) = shared.store.above(above, resource, &query.selection);
        above = version.max(above);
        for object in objects {
            lines.send(line("ADDED", &object)).await.ok()?;
        }
        if std::mem::take(&mut first) {
            lines.send(line("BOOKMARK", &bookmark(resource, above))).await.ok()?;
        }
        tokio::select! {
            changed = newest.changed() => changed.ok()?,
            () = lines.closed() => return None,
        }
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({ "type": kind, "object": object })))
}

fn bookmark(resource: Resource, version: u64) -> Value {
    json!({
        "kind": resource.kind(),
        "apiVersion": resource.api_version(),
        "metadata": {
            "resourceVersion": version.to_string(),
            "annotations": { INITIAL_EVENTS_END: "true" },
        },
    })
}

/// Takes an event, counts it, and gives it back as a server would that keeps it.
async fn took_event(request: Request<Incoming>, shared: &Shared) -> Outcome {
    let read = tokio::time::timeout(REQUEST_PATIENCE, read(request.into_body())).await;
    let bytes = match read {
        Ok(Some(bytes)) => bytes,
        _ => return Err((StatusCode::BAD_REQUEST, "its body is too long or too late".to_owned())),
    };
    let event: Value = serde_json::from_slice(&bytes)
        .map_err(|problem| (StatusCode::BAD_REQUEST, problem.to_string()))?;
    shared.events.fetch_add(1, Ordering::Relaxed);
    Ok(json_answer(StatusCode::CREATED, event.to_string()))
}

/// A body of no more than [`BODY_MAX`]; `None` where it is longer or breaks off.
async fn read(mut body: Incoming) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(frame) =
        std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await
    {
        if let Ok(data) = frame.ok()?.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() > BODY_MAX {
            return None;
        }
    }
    Some(bytes)
}
