// SPDX-License-Identifier: Apache-2.0
//! Calls of gRPC against another implementation of it: its client at our server, its server at our client.

use std::convert::Infallible;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Bytes, Service, http};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::Endpoint;
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;
use workloads::protocol::{LoadSpec, Protocol};

use crate::agents::{Load, Target};
use crate::workload::{CONNECTIONS, only_error, place, requests, spec};

const PATH: &str = "/grpc.testing.BenchmarkService/UnaryCall";

#[derive(Clone, PartialEq, prost::Message)]
struct SimpleRequest {
    #[prost(int32, tag = "2")]
    response_size: i32,
    #[prost(message, optional, tag = "3")]
    payload: Option<Payload>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SimpleResponse {
    #[prost(message, optional, tag = "1")]
    payload: Option<Payload>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(bytes = "bytes", tag = "2")]
    body: Bytes,
}

/// One call of a client that is not ours.
async fn call(at: SocketAddr, path: &'static str, ask: i32, send: usize) -> Result<usize, Status> {
    let channel = Endpoint::from_shared(format!("http://{at}")).unwrap().connect().await.unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let payload = (send > 0).then(|| Payload { body: vec![b'p'; send].into() });
    let request = Request::new(SimpleRequest { response_size: ask, payload });
    let codec = ProstCodec::<SimpleRequest, SimpleResponse>::default();
    let answer = client.unary(request, PathAndQuery::from_static(path), codec).await?;
    Ok(answer.into_inner().payload.map_or(0, |payload| payload.body.len()))
}

#[test]
fn a_client_of_another_implementation_is_answered_by_ours() {
    let at = place();
    let mut target = Target::listen(at);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (ask, send) in [(0, 0), (1024, 0), (0, 5000), (300_000, 200_000)] {
            assert_eq!(call(at, PATH, ask, send).await.unwrap(), ask as usize);
        }
        let code = async |path, ask| call(at, path, ask, 0).await.unwrap_err().code();
        assert_eq!(code(PATH, -1).await, Code::InvalidArgument);
        assert_eq!(code("/grpc.testing.BenchmarkService/Other", 1).await, Code::Unimplemented);
        let large = call(at, PATH, 1, 4 * 1024 * 1024).await.unwrap_err();
        assert_eq!(large.code(), Code::ResourceExhausted, "{large}");
    });
    assert_eq!(target.drain().1, 7);
}

/// The service on a server that is not ours. It refuses to answer with [`REFUSED`] bytes.
#[derive(Clone)]
struct Benchmark;

const REFUSED: i32 = 13;

impl NamedService for Benchmark {
    const NAME: &'static str = "grpc.testing.BenchmarkService";
}

impl Service<http::Request<Body>> for Benchmark {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async {
            let codec = ProstCodec::<SimpleResponse, SimpleRequest>::default();
            Ok(tonic::server::Grpc::new(codec).unary(Benchmark, request).await)
        })
    }
}

impl UnaryService<SimpleRequest> for Benchmark {
    type Response = SimpleResponse;
    type Future = std::future::Ready<Result<Response<SimpleResponse>, Status>>;

    fn call(&mut self, request: Request<SimpleRequest>) -> Self::Future {
        let asked = request.into_inner();
        if asked.response_size == REFUSED {
            return std::future::ready(Err(Status::unavailable("refused")));
        }
        // What was asked for, or what came, where nothing was.
        let sent = asked.payload.map_or(0, |payload| payload.body.len());
        let length = if asked.response_size == 0 { sent } else { asked.response_size as usize };
        let payload = Some(Payload { body: vec![b'a'; length].into() });
        std::future::ready(Ok(Response::new(SimpleResponse { payload })))
    }
}

#[test]
fn a_server_of_another_implementation_answers_our_client() {
    let at = place();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let listener = TcpListener::bind(at).unwrap();
    listener.set_nonblocking(true).unwrap();
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        tonic::transport::Server::builder()
            .add_service(Benchmark)
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    });
    for connection in CONNECTIONS {
        let spec = LoadSpec { protocol: Protocol::Grpc, connection, ..spec(at) };
        let ask = |request_bytes, response_bytes| {
            Load::new(&LoadSpec { request_bytes, response_bytes, ..spec.clone() })
                .run(&requests(20))
        };
        for (send, receive) in [(0, 10), (100, 1), (100_000, 1_000_000)] {
            let report = ask(send, receive);
            assert_eq!((report.requests, report.errors.len()), (20, 0), "{:?}", report.errors);
        }
        assert_eq!(only_error(&ask(0, REFUSED as u64)), "grpc_14");
        // It answers with another length than was asked for.
        assert_eq!(only_error(&ask(5, 0)), "length");
    }
}
