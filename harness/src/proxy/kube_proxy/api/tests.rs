// SPDX-License-Identifier: Apache-2.0
//! The API server, asked over a socket as a client would.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::ApiServer;
use crate::net::Netns;
use crate::proxy::sample::{every_kind, plain};
use crate::proxy::{Service, ServiceTable};

const SOON: Duration = Duration::from_secs(20);

struct Asked {
    status: u16,
    body: BufReader<TcpStream>,
    chunked: bool,
}

fn server(table: &ServiceTable) -> ApiServer {
    let here = Netns::here("node1").unwrap();
    ApiServer::start(&here, table, "node1", IpAddr::from([10, 9, 0, 11])).unwrap()
}

fn ask(server: &ApiServer, head: &str, body: &[u8]) -> Asked {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let length = body.len();
    write!(stream, "{head} HTTP/1.1\r\nHost: api\r\nContent-Length: {length}\r\n\r\n").unwrap();
    // A server that has heard enough may close while more is sent.
    let _ = stream.write_all(body);
    let mut body = BufReader::new(stream);
    let mut line = String::new();
    body.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let mut chunked = false;
    loop {
        line.clear();
        body.read_line(&mut line).unwrap();
        chunked |= line.to_ascii_lowercase().contains("chunked");
        if line.trim().is_empty() {
            return Asked { status, body, chunked };
        }
    }
}

fn get(server: &ApiServer, path: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

/// The next event of a watch.
fn event(asked: &mut Asked) -> (String, Value) {
    assert!(asked.chunked);
    let mut line = String::new();
    // A chunk's length, the chunk, which is a line, and the chunk's end.
    asked.body.read_line(&mut line).unwrap();
    line.clear();
    asked.body.read_line(&mut line).unwrap();
    asked.body.read_line(&mut String::new()).unwrap();
    let event: Value = serde_json::from_str(&line).unwrap();
    (event["type"].as_str().unwrap().to_owned(), event["object"].clone())
}

fn named(name: &str) -> Service {
    Service { name: name.to_owned(), ..plain() }
}

#[test]
fn a_watch_from_a_lists_version_tells_what_came_after_it() {
    let server = server(&every_kind());
    let (status, list) = get(&server, "/api/v1/services?limit=500&resourceVersion=0");
    assert_eq!((status, list["items"].as_array().unwrap().len()), (200, 8));
    assert_eq!((&list["kind"], &list["apiVersion"]), (&"ServiceList".into(), &"v1".into()));
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("GET /api/v1/services?watch=true&resourceVersion={version}");
    let mut early = ask(&server, &path, &[]);
    server.add(named("one-more"));
    server.add(named("and-another"));
    let (kind, object) = event(&mut early);
    assert_eq!((kind.as_str(), &object["metadata"]["name"]), ("ADDED", &"one-more".into()));
    assert_eq!(event(&mut early).1["metadata"]["name"], "and-another");
    // A watch that begins behind the first of them is told of the second only.
    let version = object["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!(
        "GET /apis/discovery.k8s.io/v1/endpointslices?watch=true&resourceVersion={version}"
    );
    let mut late = ask(&server, &path, &[]);
    assert_eq!(event(&mut late).1["metadata"]["name"], "and-another-0");
    let (_, list) = get(&server, "/api/v1/services");
    assert_eq!(list["items"].as_array().unwrap().len(), 10);
}

#[test]
fn a_watch_that_asks_for_it_begins_with_all_there_is_and_a_bookmark_behind_it() {
    let server = server(&ServiceTable { services: vec![named("a"), named("b")] });
    let path = "GET /api/v1/services?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&\
                resourceVersionMatch=NotOlderThan";
    let mut watch = ask(&server, path, &[]);
    let kinds: Vec<_> = (0..3).map(|_| event(&mut watch)).collect();
    assert_eq!(kinds[0].1["metadata"]["name"], "a");
    let (kind, bookmark) = &kinds[2];
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(bookmark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(bookmark["metadata"]["resourceVersion"], "1");
}

#[test]
fn a_watch_ends_when_its_time_is_over() {
    let server = server(&ServiceTable::default());
    let path = "GET /api/v1/services?watch=true&resourceVersion=1&timeoutSeconds=1";
    let mut watch = ask(&server, path, &[]);
    let mut rest = String::new();
    watch.body.read_to_string(&mut rest).unwrap_or_default();
    assert!(rest.starts_with("0\r\n"), "{rest:?}");
}

#[test]
fn the_node_is_there_by_its_name_and_by_a_selector() {
    let server = server(&ServiceTable::default());
    let (status, node) = get(&server, "/api/v1/nodes/node1");
    assert_eq!(status, 200);
    assert_eq!(node["status"]["addresses"][0]["address"], "10.9.0.11");
    let (_, list) = get(&server, "/api/v1/nodes?fieldSelector=metadata.name%3Dnode1");
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let (_, list) = get(&server, "/api/v1/nodes?fieldSelector=metadata.name%3Dnode2");
    assert_eq!(list["items"].as_array().unwrap().len(), 0);
    assert_eq!(get(&server, "/api/v1/nodes/node2").0, 404);
}

#[test]
fn events_are_taken_counted_and_given_back() {
    let server = server(&ServiceTable::default());
    let post = "POST /api/v1/namespaces/default/events";
    assert_eq!(ask(&server, post, b"{\"kind\":\"Event\"}").status, 201);
    assert_eq!(server.events(), 1);
    assert_eq!(ask(&server, post, b"no event").status, 400);
    assert_eq!(ask(&server, post, &vec![b' '; 300 * 1024]).status, 400);
    assert_eq!(server.events(), 1);
    assert_eq!(server.refused().len(), 2);
}

#[test]
fn what_is_not_known_is_refused_and_remembered() {
    let server = server(&ServiceTable::default());
    let (status, answer) = get(&server, "/api/v1/pods");
    assert_eq!((status, &answer["kind"]), (404, &"Status".into()));
    assert_eq!(get(&server, "/api/v1/services?labelSelector=a+in+(b)").0, 400);
    let delete = ask(&server, "DELETE /api/v1/services", &[]);
    assert_eq!(delete.status, 404);
    let refused = server.refused();
    assert_eq!(refused[0], "GET /api/v1/pods: nothing is known of /api/v1/pods");
    assert_eq!(refused.len(), 3);
}
