// SPDX-License-Identifier: Apache-2.0
//! The taps against tcpdump, and their capture file against Wireshark's own tools.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use harness::capture::packet::flags;
use harness::capture::{Segment, TapCapture, TapOptions, Taps, pcap};
use harness::net::Netns;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pcap_file::pcap::PcapReader;

use crate::SERVICE;
use crate::http::{request, serve};
use crate::lab::{CLIENT, Lab, NODE, POD};

const LIMIT: Duration = Duration::from_secs(10);

/// tcpdump on a device, and the segments it sees as it sees them. It listens when this returns.
fn tcpdump(host: &Netns, device: &'static str) -> (Child, mpsc::Receiver<Segment>) {
    let mut child = host.run(move || {
        Command::new("tcpdump")
            // In immediate mode a slot is as large as the snap length, and packets are lost for want
            // of slots: whole frames of this test, and a large buffer.
            .args(["-i", device, "-s", "4096", "-B", "16384", "-U", "--immediate-mode"])
            .args(["-w", "-", "tcp and ip[1] & 0xfc == 4"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump is installed")
    });
    let mut words = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening on") {
        line.clear();
        assert_ne!(words.read_line(&mut line).unwrap(), 0, "tcpdump did not start");
    }
    // Kept open, so that its last words do not end it early.
    std::thread::spawn(move || {
        let mut last = String::new();
        words.read_to_string(&mut last).unwrap();
        eprint!("{last}");
    });
    let stdout = child.stdout.take().unwrap();
    let (sender, segments) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = PcapReader::new(stdout).unwrap();
        while let Some(frame) = reader.next_packet() {
            let frame = frame.unwrap();
            sender.send(Segment::parse(&frame.data, frame.orig_len).unwrap()).unwrap();
        }
    });
    (child, segments)
}

#[test]
fn a_tap_sees_exactly_the_segments_that_tcpdump_sees() {
    let Some(lab) = Lab::ptp() else { return };
    let (mut child, theirs) = tcpdump(&lab.hosts[NODE], "eth0");
    let options = TapOptions { keep_acks: true, ..TapOptions::default() };
    let mut taps = Taps::start(&lab.points(), options).unwrap();
    let nic = taps.infos().iter().position(|info| info.name == "node1/eth0").unwrap() as u16;
    let server = serve(&lab.hosts[POD], 20);
    for marked in [true, false].repeat(10) {
        request(&lab.hosts[CLIENT], SERVICE, 5, marked);
    }
    server.join().unwrap();
    let at_nic = |capture: TapCapture| {
        capture.packets.into_iter().filter(move |p| p.tap == nic).map(|p| p.segment)
    };
    let (mut ours, mut seen): (Vec<Segment>, Vec<Segment>) = Default::default();
    let fins = |segments: &[Segment]| segments.iter().filter(|s| s.has(flags::FIN)).count();
    // The last segments are still on their way when the server is done.
    let deadline = Instant::now() + LIMIT;
    while fins(&ours) < 2 * 10 || ours.len() != seen.len() {
        assert!(Instant::now() < deadline, "{} segments, tcpdump saw {}", ours.len(), seen.len());
        ours.extend(at_nic(taps.drain().unwrap()));
        seen.extend(theirs.try_iter());
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    seen.extend(theirs.iter());
    child.wait().unwrap();
    ours.extend(at_nic(taps.stop().unwrap()));
    let key = |s: &Segment| (s.src, s.dst, s.seq, s.ack, s.tsval, s.flags, s.payload_bytes);
    ours.sort_by_key(key);
    seen.sort_by_key(key);
    assert!(ours.len() > 10 * 12, "{}", ours.len());
    assert_eq!(ours, seen);
}

/// Runs a tool; `None`, said aloud, when it is not installed.
fn run(program: &str, args: &[&str]) -> Option<String> {
    let output = match Command::new(program).args(args).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIP {program} is not installed");
            return None;
        }
        Err(error) => panic!("{program}: {error}"),
    };
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_capture_file_opens_in_wireshark_with_interfaces_directions_and_times() {
    let Some(lab) = Lab::ptp() else { return };
    let snap_bytes = 65_535;
    let options = TapOptions {
        keep_acks: true,
        snap_bytes,
        frame_bytes_max: 16 * 1024 * 1024,
        ..TapOptions::default()
    };
    let mut taps = Taps::start(&lab.points(), options).unwrap();
    let server = serve(&lab.hosts[POD], 3);
    (0..3).for_each(|_| drop(request(&lab.hosts[CLIENT], SERVICE, 1, true)));
    server.join().unwrap();
    let capture = taps.drain().unwrap();
    assert_eq!((capture.frames.len(), capture.frames_not_kept), (capture.packets.len(), 0));

    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let written = pcap::write(file.reopen().unwrap(), taps.infos(), &capture, snap_bytes).unwrap();
    assert_eq!(written as usize, capture.packets.len());

    let fields = [
        "frame.interface_name",
        "frame.packet_flags_direction",
        "frame.time_epoch",
        "tcp.len",
        "tcp.seq_raw",
    ];
    let mut args = vec!["-r", path, "-T", "fields"];
    args.extend(fields.iter().flat_map(|field| ["-e", *field]));
    let Some(read) = run("tshark", &args) else { return };
    let mut expected = capture.packets.clone();
    expected.sort_by_key(|packet| packet.time_ns);
    assert_eq!(read.lines().count(), expected.len());
    for (line, packet) in read.lines().zip(&expected) {
        let columns: Vec<&str> = line.split('\t').collect();
        assert_eq!(columns[0], taps.infos()[usize::from(packet.tap)].name);
        let outgoing = packet.direction == harness::capture::Direction::Out;
        assert_eq!(
            u32::from_str_radix(columns[1].trim_start_matches("0x"), 16).unwrap(),
            1 + u32::from(outgoing)
        );
        let (seconds, fraction) = columns[2].split_once('.').unwrap();
        let time_ns: u64 = format!("{seconds}{fraction}").parse().unwrap();
        assert_eq!(time_ns, capture.clock.realtime_ns(packet.time_ns));
        assert_eq!(columns[3], packet.segment.payload_bytes.to_string());
        assert_eq!(columns[4], packet.segment.seq.to_string());
    }
    let Some(about) = run("capinfos", &["-M", "-c", path]) else { return };
    assert!(about.contains(&format!("Number of packets:   {written}")), "{about}");
}

#[test]
fn frames_beyond_the_limit_are_counted_and_the_rest_is_sound() {
    let Some(lab) = Lab::ptp() else { return };
    let options = TapOptions { frame_bytes_max: 1000, ..TapOptions::default() };
    let mut taps = Taps::start(&lab.points(), options).unwrap();
    let server = serve(&lab.hosts[POD], 1);
    request(&lab.hosts[CLIENT], SERVICE, 5, true);
    server.join().unwrap();
    let capture = taps.drain().unwrap();
    assert!(!capture.frames.is_empty());
    assert_eq!(capture.frames.len() as u64 + capture.frames_not_kept, capture.events);
    for frame in capture.frames.iter() {
        assert!(Segment::parse(frame.bytes, frame.wire_bytes).is_some());
    }
}
