// SPDX-License-Identifier: Apache-2.0
//! The talk on standard input and output, and bytes on the target's port that are no HTTP.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use workloads::protocol::PhaseReport;

use crate::agents::{Agent, Load, Target};
use crate::workload::{PROTOCOLS, place, requests, spec};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The agent ends with code 2 and one sentence that has `word` in it.
#[track_caller]
fn assert_refused(mut agent: Agent, lines: &[&str], word: &str) {
    lines.iter().for_each(|line| agent.say(line));
    let (_, code, errors) = agent.end();
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains(word), "{errors:?} does not name {word}");
    assert_eq!(errors.lines().count(), 1, "{errors:?}");
}

#[test]
fn an_unknown_key_is_named_and_refused_with_code_2() {
    let good = serde_json::to_value(spec(place())).unwrap();
    let mut top = good.clone();
    top["respnse_bytes"] = 1.into();
    assert_refused(Agent::load(), &[&top.to_string()], "`respnse_bytes`");
    let mut nested = good.clone();
    nested["arrival"]["closed"]["conections"] = 1.into();
    assert_refused(Agent::load(), &[&nested.to_string()], "`conections`");
    let mut sources = good.clone();
    sources["sources"]["port_frist"] = 1.into();
    assert_refused(Agent::load(), &[&sources.to_string()], "`port_frist`");

    let mut command = serde_json::to_value(requests(1)).unwrap();
    command["run"]["max_reqests"] = 1.into();
    assert_refused(Agent::load(), &[&good.to_string(), &command.to_string()], "`max_reqests`");

    let line = format!(r#"{{"listen":["{}"],"pod":"p","prot":1}}"#, place());
    assert_refused(Agent::target(), &[&line], "`prot`");
    let line = format!(r#"{{"listen":["{}"],"pod":"p"}}"#, place());
    assert_refused(Agent::target(), &[&line, "\"dran\""], "`dran`");
}

#[test]
fn a_value_that_is_missing_or_out_of_range_is_named_and_refused_with_code_2() {
    let good = serde_json::to_value(spec(place())).unwrap();
    let changed = |key: &str, value: serde_json::Value| {
        let mut changed = good.clone();
        changed[key] = value;
        changed.to_string()
    };
    assert_refused(Agent::load(), &[], "load spec");
    assert_refused(Agent::load(), &["not json"], "load spec");
    assert_refused(Agent::load(), &[&changed("timeout_ms", 0.into())], "`timeout_ms`");
    assert_refused(
        Agent::load(),
        &[&changed("response_bytes", (2u64 << 30).into())],
        "`response_bytes`",
    );
    let nowhere = serde_json::json!({"addresses": ["192.0.2.1"], "port_first": 1, "port_last": 2});
    assert_refused(Agent::load(), &[&changed("sources", nowhere)], "192.0.2.1");
    let mut missing = good.clone();
    missing.as_object_mut().unwrap().remove("seed");
    assert_refused(Agent::load(), &[&missing.to_string()], "`seed`");
}

#[test]
fn a_target_that_cannot_listen_says_where_and_why() {
    let at = place();
    let _first = Target::listen(at);
    let mut second = Agent::target();
    second.say(&format!(r#"{{"listen":["{at}"],"pod":"p"}}"#));
    let (answers, _, _) = second.end();
    let [answer] = &answers[..] else { panic!("{answers:?}") };
    assert!(answer.contains("failed") && answer.contains(&at.to_string()), "{answer}");
}

#[test]
fn agents_end_when_their_input_does() {
    let at = place();
    let target = Target::listen(at);
    let mut open = TcpStream::connect(at).unwrap();
    let mut load = Load::new(&spec(at));
    assert_eq!(load.run(&requests(3)).requests, 3);
    assert_eq!(load.0.end(), (vec![], Some(0), String::new()));

    // The phase under way is answered, then the end of the input is seen.
    let mut load = Load::new(&spec(at));
    load.0.say(&serde_json::to_string(&requests(500)).unwrap());
    let (answers, code, errors) = load.0.end();
    let [answer] = &answers[..] else { panic!("{answers:?}") };
    let report: PhaseReport = serde_json::from_str(answer).unwrap();
    assert_eq!((report.requests, code, errors.as_str()), (500, Some(0), ""));

    // A connection that is open keeps no target alive.
    assert_eq!(target.0.end(), (vec![], Some(0), String::new()));
    let mut rest = Vec::new();
    let _ = open.read_to_end(&mut rest);
    assert!(rest.is_empty());
}

#[test]
fn bytes_that_are_no_http_do_not_keep_a_target_from_serving() {
    let at = place();
    let mut target = Target::listen(at);
    let mut huge = b"GET / HTTP/1.1\r\nx: ".to_vec();
    huge.resize(1 << 20, b'a');
    let wild: Vec<u8> = (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let pieces: [&[u8]; 9] = [
        b"",
        b"\0",
        b"P",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /bytes/99999999999999999999 HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        &huge,
        &wild,
        &[PREFACE, &wild].concat(),
    ];
    let mut halfway = Vec::new();
    for piece in pieces {
        let mut stream = TcpStream::connect(at).unwrap();
        // The target may hang up before it has read all of it.
        let _ = stream.write_all(piece);
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
        // And the same without an end, held open.
        let mut stream = TcpStream::connect(at).unwrap();
        let _ = stream.write_all(piece);
        halfway.push(stream);
    }
    for protocol in PROTOCOLS {
        let spec = workloads::protocol::LoadSpec { protocol, ..spec(at) };
        let report = Load::new(&spec).run(&requests(30));
        assert_eq!((report.requests, report.errors.len()), (30, 0), "{:?}", report.errors);
    }
    assert_eq!(target.drain().1, 120, "garbage is no request");
    drop(halfway);
}
