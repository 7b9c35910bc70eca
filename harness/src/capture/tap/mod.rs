// SPDX-License-Identifier: Apache-2.0
//! The `tap` engine: AF_PACKET rings on every interface of the path, read by one thread.
//!
//! A frame's time is taken by the kernel when it passes the tap: on the way out in
//! `dev_queue_xmit_nit()`, before the device gets it; on the way in in `__netif_receive_skb_core()`,
//! before anything above the device does. Receive timestamps (`SO_TIMESTAMPING`) are deliberately
//! not asked for. They are taken once, where the frame enters the host, and travel with it, so that
//! a bridge or a VXLAN device above the NIC would report the NIC's time (or that of the outer
//! packet's delivery) instead of its own; and frames of a local TCP sender, which is every frame of
//! a lab in one kernel, carry their departure time in that field and would not be stamped at all
//! (`skb->tstamp_type`, Linux 5.18 and later). When some other program on the machine asks for
//! them, they win, and [`TapCounts::stamped_before`] says for how many frames.

mod block;
mod clock;
mod filter;
mod options;
mod reader;
mod ring;
mod window;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use serde::{Deserialize, Serialize};
use socket2::SockFilter;

use super::{CaptureError, Direction, Packet, Site, TapPoint};
use crate::Unavailable;
use crate::net::Netns;
use reader::{Command, Reader};
use ring::{Ring, Shape};
use window::Window;

pub use clock::ClockOffset;
pub use filter::{PORTS_MAX, Selection};
pub use options::TapOptions;
pub use window::{Frame, Frames, TapCounts};

/// Most taps of one capture.
pub const TAPS_MAX: usize = 256;
/// How far the wall clock may be moved against CLOCK_MONOTONIC during a window, nanoseconds.
const CLOCK_TOLERANCE_NS: u64 = 5_000;
/// How long frames that the kernel counted may take to turn up. A block is handed over within two
/// block timeouts; the rest is for a machine that is busy.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Where a tap sits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TapInfo {
    /// Host and device: `node1/eth0`.
    pub name: String,
    /// Node, index from 0; `None` for the client outside.
    pub node: Option<usize>,
    /// Where on the host it is.
    pub site: Site,
    /// The one direction it sees, or both.
    pub direction: Option<Direction>,
}

impl TapInfo {
    /// Host it is on.
    pub fn host(&self) -> &str {
        self.name.split_once('/').map_or(&*self.name, |(host, _)| host)
    }

    /// What a tap on `point` is called.
    pub fn of(point: &TapPoint<'_>) -> Self {
        Self {
            name: format!("{}/{}", point.netns.name(), point.device),
            node: point.node,
            site: point.kind,
            direction: None,
        }
    }
}

/// What the taps saw since they were last asked.
#[derive(Debug)]
pub struct TapCapture {
    /// TCP segments, tap by tap, each tap's in the order they passed.
    pub packets: Vec<Packet>,
    /// The frames themselves, where [`TapOptions::frame_bytes_max`] allows it.
    pub frames: Frames,
    /// Counts of each tap, in the order of the points.
    pub taps: Vec<TapCounts>,
    /// Frames read from the rings.
    pub events: u64,
    /// Frames lost: the kernel had no room in a ring, or we none beyond
    /// [`TapOptions::packets_max`].
    pub dropped: u64,
    /// Frames that passed the filter and are no TCP segment we can read.
    pub unparsed: u64,
    /// Frames kept as packets but not as frames: beyond [`TapOptions::frame_bytes_max`].
    pub frames_not_kept: u64,
    /// Processor time of the reading thread, nanoseconds. The kernel's own work on a frame (clock,
    /// filter, copy: part of the stage the tap begins) is not in it.
    pub cpu_ns: u64,
    /// How packets' times came from the wall clock to CLOCK_MONOTONIC.
    pub clock: ClockOffset,
}

/// Open taps and the thread that reads them.
#[derive(Debug)]
pub struct Taps {
    infos: Vec<TapInfo>,
    clock: ClockOffset,
    commands: Option<mpsc::Sender<Command>>,
    waker: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Taps {
    /// Whether this user may tap interfaces; asked on the loopback of a namespace made for the
    /// question.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(scratch: &Netns) -> Result<(), Unavailable> {
        let info = TapInfo {
            name: format!("{}/lo", scratch.name()),
            node: None,
            site: Site::ClientEth,
            direction: None,
        };
        let options = TapOptions { ring_bytes: options::RING_BYTES_MIN, ..TapOptions::default() };
        match open(scratch, "lo", &info, &options) {
            Ok(_) => Ok(()),
            Err(CaptureError::Unavailable(reason)) => Err(reason),
            Err(other) => Err(Unavailable::new(
                "AF_PACKET with a TPACKET_V3 ring (CONFIG_PACKET, Linux 3.2)",
                other.to_string(),
                "a kernel built with CONFIG_PACKET",
            )),
        }
    }

    /// Opens a ring on every point and starts to read.
    ///
    /// # Errors
    /// [`CaptureError::Unavailable`] without `CAP_NET_RAW` over a point's namespace;
    /// [`CaptureError::Options`] for settings out of range; else what the kernel refused.
    pub fn start(points: &[TapPoint<'_>], options: TapOptions) -> Result<Self, CaptureError> {
        options.check()?;
        if points.is_empty() || points.len() > TAPS_MAX {
            let found = points.len();
            return Err(CaptureError::Options(format!("1 to {TAPS_MAX} taps, not {found}")));
        }
        let infos: Vec<TapInfo> = points.iter().map(TapInfo::of).collect();
        let clock = measure_clock()?;
        let rings = points
            .iter()
            .zip(&infos)
            .map(|(point, info)| open(point.netns, point.device, info, &options))
            .collect::<Result<Vec<Ring>, _>>()?;
        let (waker, wakened) = wake_pair()?;
        let (commands, queue) = mpsc::channel();
        let names = infos.iter().map(|info| info.name.clone());
        let window = Window::new(options.packets_max, options.frame_bytes_max);
        let reader = Reader::new(rings.into_iter().zip(names), window, queue, wakened);
        let thread = std::thread::Builder::new()
            .name("taps".to_owned())
            .spawn(move || reader.run())
            .map_err(CaptureError::os("start the thread of", "taps"))?;
        Ok(Self { infos, clock, commands: Some(commands), waker, thread: Some(thread) })
    }

    /// Where the taps sit; a [`Packet::tap`] is an index into this.
    pub fn infos(&self) -> &[TapInfo] {
        &self.infos
    }

    /// Waits until every frame that has passed a tap by now is read and hands out all that came
    /// since the last call. Capturing goes on.
    ///
    /// # Errors
    /// A tap's interface went away, frames did not turn up in time, or the wall clock was set
    /// meanwhile; in that last case the window's packets are discarded, their times being wrong.
    pub fn drain(&mut self) -> Result<TapCapture, CaptureError> {
        let (reply, answer) = mpsc::sync_channel(1);
        let command = Command { deadline: Instant::now() + DRAIN_LIMIT, reply };
        let ended = |why: String| CaptureError::ReaderEnded(why);
        let commands = self.commands.as_ref().expect("present until the taps stop");
        commands.send(command).map_err(|error| ended(format!(": {error}")))?;
        self.waker.write_all(&[0]).map_err(CaptureError::os("wake", "the reader of taps"))?;
        let closed = answer.recv().map_err(|error| ended(format!(": {error}")))??;

        let now = measure_clock()?;
        let before = std::mem::replace(&mut self.clock, now);
        let moved_ns = before.moved_ns(now);
        if moved_ns.unsigned_abs() > CLOCK_TOLERANCE_NS {
            return Err(CaptureError::ClockStepped { moved_ns });
        }
        let clock = if before.width_ns < now.width_ns { before } else { now };
        Ok(closed.into_capture(clock))
    }

    /// Drains and closes the taps.
    ///
    /// # Errors
    /// As [`Taps::drain`]; the taps are closed all the same.
    pub fn stop(mut self) -> Result<TapCapture, CaptureError> {
        let capture = self.drain();
        match self.end() {
            Ok(()) => capture,
            Err(_) => capture.and(Err(CaptureError::ReaderEnded(" in a panic".to_owned()))),
        }
    }

    fn end(&mut self) -> std::thread::Result<()> {
        // The reader ends when it finds its commands closed; the byte makes it look.
        self.commands.take();
        let _ = self.waker.write_all(&[0]);
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Drop for Taps {
    fn drop(&mut self) {
        // The last resort of a guard whose owner did not call `stop`; nobody is left to tell.
        let _ = self.end();
    }
}

fn measure_clock() -> Result<ClockOffset, CaptureError> {
    ClockOffset::measure().map_err(|errno| CaptureError::os("read", "clocks")(errno.into()))
}

fn wake_pair() -> Result<(UnixStream, UnixStream), CaptureError> {
    let pair = UnixStream::pair().and_then(|(waker, wakened)| {
        wakened.set_nonblocking(true)?;
        Ok((waker, wakened))
    });
    pair.map_err(CaptureError::os("make", "a socket pair"))
}

/// Opens a ring on the namespace's own thread: a socket belongs to the namespace it was made in.
fn open(
    netns: &Netns,
    device: &str,
    info: &TapInfo,
    options: &TapOptions,
) -> Result<Ring, CaptureError> {
    let program = filter::program(&options.selection, options.keep_acks, options.snap_bytes);
    let shape: Shape = options.shape();
    let device = device.to_owned();
    let opened = netns.run(move || {
        let code: Vec<SockFilter> = program.into_iter().map(SockFilter::from).collect();
        let interface =
            if_nametoindex(device.as_str()).map_err(|errno| ("find interface", errno.into()))?;
        Ring::open(interface, &code, shape)
    });
    opened.map_err(|(op, source)| match Errno::from_raw(source.raw_os_error().unwrap_or(0)) {
        Errno::EPERM | Errno::EACCES => CaptureError::Unavailable(Unavailable::new(
            "CAP_NET_RAW, to tap interfaces",
            format!("failed to {op} {}: {source}", info.name),
            "run as root, or in a user namespace of your own (unshare -r)",
        )),
        Errno::EAFNOSUPPORT => CaptureError::Unavailable(Unavailable::new(
            "kernel option CONFIG_PACKET",
            format!("failed to {op} {}: {source}", info.name),
            "a kernel built with CONFIG_PACKET",
        )),
        _ => CaptureError::Os { op, subject: info.name.clone(), source },
    })
}
