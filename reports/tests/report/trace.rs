// SPDX-License-Identifier: Apache-2.0
//! A walk as text, as a trace and as a page.

use std::collections::{BTreeMap, BTreeSet};

use reports::table::Look;
use reports::trace::{page, perfetto, text};
use serde_json::Value;

use crate::tags;
use crate::walks::{infected, named, walk};

fn plain(width: usize) -> Look {
    Look { colour: false, width: Some(width) }
}

#[test]
fn a_walk_reads_step_by_step_at_80_columns() {
    insta::assert_snapshot!(text(&walk(), plain(80)));
}

#[test]
fn a_walk_reads_step_by_step_at_120_columns() {
    insta::assert_snapshot!(text(&walk(), plain(120)));
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let long = infected(&"averylongnamewithoutaspace".repeat(20));
    for width in 80..=200 {
        for walk in [&walk(), &long] {
            let text = text(walk, plain(width));
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest.is_some_and(|widest| widest <= width), "{widest:?} of {width}");
        }
    }
}

#[test]
fn colour_adds_sequences_and_changes_no_letter() {
    let coloured = text(&walk(), Look { colour: true, width: Some(100) });
    // The change of an address is what a reader looks for.
    assert!(coloured.contains("\x1b[1;33m10.244.1.2:8080\x1b[0m"));
    let mut bare = String::new();
    for (place, part) in coloured.split('\x1b').enumerate() {
        bare.push_str(if place == 0 { part } else { part.split_once('m').unwrap().1 });
    }
    assert_eq!(bare, text(&walk(), plain(100)));
}

#[test]
fn an_acknowledgement_that_travels_along_begins_no_part_of_its_own() {
    let text = text(&walk(), plain(100));
    let parts: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("There") || line.starts_with("Back"))
        .map(|line| line.split(" (").next().unwrap())
        .collect();
    assert_eq!(parts, ["There: opening", "Back: answer", "There: request", "Back: response"]);
}

#[test]
fn control_characters_of_a_record_do_not_reach_the_terminal() {
    let text = text(&infected("\u{1b}[2J\r\nx\u{7}"), plain(100));
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}

fn events(trace: &str) -> Vec<Value> {
    let trace: Value = serde_json::from_str(trace).expect("a trace is JSON");
    trace["traceEvents"].as_array().expect("a trace has events").clone()
}

fn of<'a>(events: &'a [Value], phase: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["ph"] == phase).collect()
}

#[test]
fn every_event_of_a_trace_has_what_the_format_demands() {
    let events = events(&perfetto(&[walk(), walk()]));
    let mut named = BTreeSet::new();
    for event in of(&events, "M") {
        named.insert((event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap()));
    }
    for event in &events {
        assert!(!event["name"].as_str().unwrap().is_empty(), "{event}");
        assert!(event["cat"].is_string() && event["ts"].as_f64().unwrap() >= 0.0, "{event}");
        let track = (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap());
        assert!(named.contains(&track), "{event} is on a thread without a name");
        match event["ph"].as_str().unwrap() {
            "X" => assert!(event["dur"].as_f64().unwrap() >= 0.0, "{event}"),
            "s" | "t" | "f" => assert!(event["id"].is_u64(), "{event}"),
            "i" => assert_eq!(event["s"], "t", "{event}"),
            "M" => assert!(event["args"].is_object(), "{event}"),
            other => panic!("{other} is no phase this trace uses"),
        }
    }
    let name = |what: &str| {
        let of_name = events.iter().filter(|event| event["name"] == what);
        of_name.map(|event| event["args"]["name"].as_str().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(name("process_name"), ["requests", "client", "node1", "node2", "pod2-1"]);
    assert!(name("thread_name").contains(&"device eth0"));
}

#[test]
fn slices_of_a_walk_add_up_to_the_request_and_none_overlap_on_a_thread() {
    let walks = [walk(), walk()];
    let events = events(&perfetto(&walks));
    let ns = |value: &Value| (value.as_f64().unwrap() * 1000.0).round() as u64;
    let slices = of(&events, "X");
    for (number, walk) in (1..).zip(&walks) {
        let sum = |cat: &str| {
            let own = slices.iter().filter(|s| s["args"]["walk"] == number && s["cat"] == cat);
            own.map(|slice| ns(&slice["dur"])).sum::<u64>()
        };
        assert_eq!((sum("stage"), sum("request")), (walk.total_ns, walk.total_ns));
    }
    let mut threads: BTreeMap<_, Vec<(u64, u64)>> = BTreeMap::new();
    for slice in slices {
        let track = (slice["pid"].as_u64(), slice["tid"].as_u64());
        let start = ns(&slice["ts"]);
        threads.entry(track).or_default().push((start, start + ns(&slice["dur"])));
    }
    for spans in threads.values_mut() {
        spans.sort_unstable();
        assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{spans:?}");
    }
}

#[test]
fn what_no_step_covers_is_a_slice_of_its_own() {
    let mut short = walk();
    short.total_ns += 777;
    let events = events(&perfetto(&[short]));
    let rest: Vec<_> = of(&events, "X").into_iter().filter(|e| e["name"] == "not seen").collect();
    assert_eq!((rest.len(), rest[0]["dur"].as_f64()), (1, Some(0.777)));
}

#[test]
fn arrows_begin_and_end_once_inside_a_slice_and_join_hosts() {
    let events = events(&perfetto(&[walk(), walk()]));
    let mut flows: BTreeMap<u64, Vec<&Value>> = BTreeMap::new();
    for event in events.iter().filter(|e| ["s", "t", "f"].iter().any(|phase| e["ph"] == *phase)) {
        flows.entry(event["id"].as_u64().unwrap()).or_default().push(event);
    }
    // SYN, SYN-ACK, ACK, request and response of either walk.
    assert_eq!(flows.len(), 10);
    for stops in flows.values() {
        let phases: String = stops.iter().map(|stop| stop["ph"].as_str().unwrap()).collect();
        let middle = &phases[1..phases.len() - 1];
        assert!(phases.starts_with('s') && phases.ends_with('f'), "{phases}");
        assert!(middle.chars().all(|phase| phase == 't'), "{phases}");
        assert!(stops.windows(2).all(|pair| pair[0]["ts"].as_f64() <= pair[1]["ts"].as_f64()));
        assert!(stops.iter().all(|stop| stop["name"] == stops[0]["name"]));
        let hosts: BTreeSet<_> = stops.iter().map(|stop| stop["pid"].as_u64()).collect();
        assert!(hosts.len() > 1, "{stops:?}");
        for stop in stops {
            let (at, track) = (stop["ts"].as_f64().unwrap(), (&stop["pid"], &stop["tid"]));
            let open = of(&events, "X").into_iter().any(|slice| {
                let start = slice["ts"].as_f64().unwrap();
                let end = start + slice["dur"].as_f64().unwrap();
                (&slice["pid"], &slice["tid"]) == track && start <= at && at < end
            });
            assert!(open, "{stop} holds on to no slice");
        }
    }
}

#[test]
fn a_page_of_walks_is_well_formed_and_fetches_and_runs_nothing() {
    let page = page(&[walk(), walk()]).unwrap();
    let used = tags::read(&page).unwrap();
    for element in ["script", "link", "img", "iframe", "object"] {
        assert!(!used.elements.contains(element), "{element}");
    }
    for link in &used.links {
        assert!(used.ids.contains(link.strip_prefix('#').unwrap()), "{link} leads nowhere");
    }
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http://") && !outside.contains("https://"));
    // The drawing and the table say the same: a dot or a diamond for every row.
    let steps = walk().steps.len();
    let marks = page.matches("<circle").count() + page.matches("<polygon").count();
    assert_eq!((marks, page.matches("<tr><td class=\"num\">").count()), (2 * steps, 2 * steps));
}

#[test]
fn texts_made_to_break_out_of_a_page_of_walks_stay_text() {
    for text in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "</title></svg></style><b>",
        "{{ self }} {% raw %}",
        "",
        &"x".repeat(5000),
    ] {
        let used = tags::read(&page(&[infected(text)]).unwrap()).unwrap();
        for element in ["script", "img", "b"] {
            assert!(!used.elements.contains(element), "<{element}> of {text}");
        }
        assert!(events(&perfetto(&[infected(text)])).len() > 20);
    }
}

#[test]
fn queries_for_names_come_before_the_request_and_have_threads_by_their_kinds() {
    let text = text(&named(), plain(80));
    let (from, to) = (text.find("Names").unwrap(), text.find("There: opening").unwrap());
    insta::assert_snapshot!(text[from..to].trim_end());
    let page = page(&[named()]).unwrap();
    tags::read(&page).unwrap();
    assert!(page.contains("AAAA web.: NOERROR 10.96.0.1"));
    let events = events(&perfetto(&[named()]));
    let asked: Vec<_> = events.iter().filter(|event| event["cat"] == "query").collect();
    let threads: BTreeSet<_> = asked.iter().map(|event| event["tid"].as_u64()).collect();
    assert_eq!((asked.len(), threads.len()), (4, 2));
}

#[test]
fn a_walk_without_steps_is_no_reason_to_stop() {
    let mut empty = walk();
    empty.steps.clear();
    tags::read(&page(&[empty.clone()]).unwrap()).unwrap();
    assert!(text(&empty, plain(80)).contains("0 steps"));
    assert_eq!(of(&events(&perfetto(&[empty])), "X").len(), 2);
}
