// SPDX-License-Identifier: Apache-2.0
//! The thread that reads all rings.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::ClockId;

use super::clock::now_ns;
use super::ring::Ring;
use super::window::{Closed, TapCounts, Window};
use crate::capture::CaptureError;

/// Drain, and answer by `deadline`.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) deadline: Instant,
    pub(super) reply: mpsc::SyncSender<Result<Closed, CaptureError>>,
}

/// A ring with the counts of the window that is open.
#[derive(Debug)]
struct Tap {
    ring: Ring,
    name: String,
    counts: TapCounts,
    /// Frames the kernel says it put into the ring in all, and frames found there in all.
    arrived: u64,
    seen: u64,
    gone: Option<std::io::Error>,
}

#[derive(Debug)]
pub(super) struct Reader {
    taps: Vec<Tap>,
    window: Window,
    commands: mpsc::Receiver<Command>,
    wakened: UnixStream,
    cpu_ns: u64,
}

impl Reader {
    pub(super) fn new(
        rings: impl Iterator<Item = (Ring, String)>,
        window: Window,
        commands: mpsc::Receiver<Command>,
        wakened: UnixStream,
    ) -> Self {
        let taps = rings.map(|(ring, name)| Tap {
            ring,
            name,
            counts: TapCounts::default(),
            arrived: 0,
            seen: 0,
            gone: None,
        });
        Self { taps: taps.collect(), window, commands, wakened, cpu_ns: 0 }
    }

    /// Closes all rings at once: each close waits until no processor delivers to the ring any more
    /// (`synchronize_net` in the kernel's packet_release), and such waits overlap.
    fn close(self) {
        std::thread::scope(|scope| {
            for tap in self.taps {
                scope.spawn(move || drop(tap));
            }
        });
    }

    /// Reads until the commands are closed.
    pub(super) fn run(mut self) {
        loop {
            self.read_filled();
            match self.commands.try_recv() {
                Ok(command) => {
                    let answer = self.drain(command.deadline);
                    // Whoever asked may have given up; the next one gets the next window.
                    let _ = command.reply.send(answer);
                }
                Err(mpsc::TryRecvError::Empty) => {
                    // Woken by a filled block or by a byte from whoever has a command for us.
                    self.wait(PollTimeout::NONE);
                }
                Err(mpsc::TryRecvError::Disconnected) => return self.close(),
            }
        }
    }

    fn read_filled(&mut self) {
        for (index, tap) in self.taps.iter_mut().enumerate() {
            let Tap { ring, counts, seen, .. } = tap;
            let window = &mut self.window;
            while let Some(frames) = ring.take_block(|block| {
                for frame in block.frames() {
                    counts.stamped_before += u64::from(frame.stamped_before);
                    window.add(index as u16, &frame);
                }
                u64::from(block.frame_count())
            }) {
                counts.frames += frames;
                *seen += frames;
            }
        }
    }

    /// Waits for a filled block, a wake-up byte or the timeout.
    fn wait(&mut self, timeout: PollTimeout) {
        let listening = self.taps.iter().filter(|tap| tap.gone.is_none());
        let mut fds: Vec<PollFd<'_>> = std::iter::once(self.wakened.as_fd())
            .chain(listening.map(|tap| tap.ring.as_fd()))
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => panic!("poll(2) fails only for bad arguments or want of memory: {errno}"),
        }
        let failed = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        let broken = |fd: &PollFd<'_>| fd.revents().is_some_and(|flags| flags.intersects(failed));
        if fds[1..].iter().any(broken) {
            // The error is read once, else poll(2) would return at once from now on.
            for tap in self.taps.iter_mut().filter(|tap| tap.gone.is_none()) {
                tap.gone = tap.ring.take_error().unwrap_or_else(Some);
            }
        }
        // Wake-up bytes say "look"; how many there are does not matter, that it does not block does.
        let _ = self.wakened.read(&mut [0; 64]);
    }

    /// Reads on until every frame the kernel has counted by now is seen.
    fn drain(&mut self, deadline: Instant) -> Result<Closed, CaptureError> {
        let started = Instant::now();
        for tap in &mut self.taps {
            let counted =
                tap.ring.statistics().map_err(CaptureError::os("read counts of", &tap.name))?;
            tap.arrived += counted.packets - counted.drops;
            tap.counts.dropped += counted.drops;
            tap.counts.freezes += counted.freezes;
        }
        loop {
            self.read_filled();
            if let Some(tap) = self.taps.iter_mut().find(|tap| tap.gone.is_some()) {
                let source = tap.gone.take().expect("just found");
                return Err(CaptureError::Gone { tap: tap.name.clone(), source });
            }
            let Some(behind) = self.taps.iter().find(|tap| tap.seen < tap.arrived) else { break };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CaptureError::Stalled {
                    tap: behind.name.clone(),
                    missing: behind.arrived - behind.seen,
                    waited_ms: started.elapsed().as_millis() as u64,
                });
            }
            self.wait(PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        }
        let counts = self.taps.iter_mut().map(|tap| std::mem::take(&mut tap.counts)).collect();
        let cpu_ns = now_ns(ClockId::CLOCK_THREAD_CPUTIME_ID)
            .map_err(|errno| CaptureError::os("read", "processor time")(errno.into()))?;
        let spent_ns = cpu_ns - std::mem::replace(&mut self.cpu_ns, cpu_ns);
        Ok(self.window.close(counts, spent_ns))
    }
}
