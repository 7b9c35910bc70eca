// SPDX-License-Identifier: Apache-2.0
//! A wire that resembles a network's: what a profile's `[lab.wire]` asks for, as the two queues, one
//! for each direction, that do it.

use std::fmt;
use std::time::Duration;

use crate::Unavailable;
use crate::net::{Change, NetError, Netem, Netns, Qdisc, QdiscKind, Tbf};
use crate::plan::WireSettings;

/// Bytes of a frame beside its IP packet (IEEE 802.3), as the kernel counts them.
const FRAME_HEADER: u64 = 14;
/// What the smallest frame takes on a wire, its gap and preamble included (IEEE 802.3).
const FRAME_MIN: u64 = 84;
/// Packets a second that a veth pair carries at most, with room.
const PACE: u64 = 1_000_000;
/// Packets that wait where nothing says how long one takes, tc's default for netem.
const WAITING: u64 = 1000;
/// How long what waits for a slow wire takes to leave: a buffer like a router's, not one in which
/// seconds of traffic would stand.
const BUFFER: Duration = Duration::from_millis(50);
/// The smallest such buffer: frames, and bytes with tbf, in which two of the largest packets of
/// segmentation offload have to find room.
const BUFFER_FRAMES: u64 = 100;
const BUFFER_BYTES: u64 = 131_072;
/// What may leave at once after a pause, as time of the wire: the kernel's timers are more precise.
const BURST: Duration = Duration::from_millis(1);
/// A wire so fast that it takes 12 ns for a full frame. With a rate, netem lets no packet overtake
/// another through jitter (`netem_enqueue`), as one cable does not.
const IN_ORDER_BYTES_PER_S: u64 = 125_000_000_000;

/// What the wire between client and nodes does, as this machine's kernel can do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulation {
    /// Queue towards the nodes.
    pub to_nodes: QdiscKind,
    /// Queue towards the client.
    pub to_client: QdiscKind,
    /// In words, for the record.
    says: String,
}

impl Emulation {
    /// The queues for `settings` on a lab whose packets have `mtu` bytes at most, tried out on
    /// `scratch`; `None` where the wire is to be as it is.
    ///
    /// # Errors
    /// The kernel has no netem and there is more to do than to be slow, or it has no tbf either.
    pub fn choose(
        settings: &WireSettings,
        seed: u64,
        mtu: u32,
        scratch: &Netns,
    ) -> Result<Option<Self>, Unavailable> {
        if settings.is_plain() {
            return Ok(None);
        }
        let netem = |seed| QdiscKind::Netem(netem(settings, mtu, seed));
        let without_netem = match try_out(scratch, netem(seed)) {
            Ok(found) => {
                let seeded = matches!(found, Some(QdiscKind::Netem(Netem { seed: Some(_), .. })));
                let drawn = match settings.has_chance() && !seeded {
                    true => "; the kernel draws a seed of its own (before Linux 6.6)",
                    false => "",
                };
                let says = format!("{settings} each way, by netem{drawn}");
                // Another seed the other way, or both would lose their packets in step.
                let (to_nodes, to_client) = (netem(seed), netem(seed ^ u64::MAX));
                return Ok(Some(Self { to_nodes, to_client, says }));
            }
            Err(error) => error.to_string(),
        };
        if !settings.is_rate_only() {
            return Err(Unavailable::new(
                "kernel option CONFIG_NET_SCH_NETEM, for [lab.wire]",
                without_netem,
                "modprobe sch_netem, boot a kernel that has it, or leave rate_mbit alone in [lab.wire]",
            ));
        }
        let tbf = QdiscKind::Tbf(tbf(settings, mtu));
        try_out(scratch, tbf.clone()).map_err(|error| {
            Unavailable::new(
                "kernel option CONFIG_NET_SCH_NETEM or CONFIG_NET_SCH_TBF, for [lab.wire]",
                error.to_string(),
                "modprobe sch_netem or sch_tbf, or boot a kernel that has one",
            )
        })?;
        let says = format!("{settings} each way, by tbf: the kernel has no netem");
        Ok(Some(Self { to_nodes: tbf.clone(), to_client: tbf, says }))
    }
}

impl fmt::Display for Emulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wire between client and nodes: {}", self.says)
    }
}

/// Puts the queue on the loopback of a namespace made for questions, and takes it off again. Returns
/// what the kernel says it has.
fn try_out(scratch: &Netns, kind: QdiscKind) -> Result<Option<QdiscKind>, NetError> {
    let qdisc = Qdisc { device: "lo".to_owned(), kind };
    scratch.apply(vec![Change::Qdisc(qdisc.clone())])?;
    let state = scratch.state();
    scratch.apply(vec![Change::DeleteQdisc(qdisc.device.clone())])?;
    let found = state?.qdiscs.into_iter().find(|found| found.device == qdisc.device);
    Ok(found.map(|found| found.kind))
}

fn netem(settings: &WireSettings, mtu: u32, seed: u64) -> Netem {
    let (delay_ns, jitter_ns) = (settings.delay.nanos(), settings.jitter.nanos());
    let rate = bytes_per_s(settings);
    let frame = u64::from(mtu) + FRAME_HEADER;
    let (pace, waiting) = match rate {
        0 => (PACE, WAITING),
        rate => (PACE.min(rate / FRAME_MIN), BUFFER_FRAMES.max(over(rate, BUFFER) / frame)),
    };
    let flight = over(pace, Duration::from_nanos(delay_ns + jitter_ns));
    let keep_order = rate == 0 && jitter_ns > 0;
    Netem {
        limit_packets: u32::try_from(flight + waiting).unwrap_or(u32::MAX),
        delay_ns,
        jitter_ns,
        loss: Netem::share(settings.loss.0),
        reorder: Netem::share(settings.reorder.0),
        rate_bytes_per_s: if keep_order { IN_ORDER_BYTES_PER_S } else { rate },
        seed: Some(seed),
    }
}

fn tbf(settings: &WireSettings, mtu: u32) -> Tbf {
    let rate = bytes_per_s(settings);
    let frame = u64::from(mtu) + FRAME_HEADER;
    let burst = over(rate, BURST).max(2 * frame);
    let limit = burst + over(rate, BUFFER).max(BUFFER_BYTES);
    let word = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    Tbf { rate_bytes_per_s: rate, burst_bytes: word(burst), limit_bytes: word(limit) }
}

fn bytes_per_s(settings: &WireSettings) -> u64 {
    // Between 12,500 bytes and 12.5 gigabytes: a profile's bounds.
    (settings.rate_mbit * 125_000.0).round() as u64
}

/// How much of `rate`, a number a second, is in a time.
fn over(rate: u64, time: Duration) -> u64 {
    let much = u128::from(rate) * time.as_nanos() / 1_000_000_000;
    u64::try_from(much).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Share, Span};

    fn settings(rate_mbit: f64) -> WireSettings {
        let none = Share(0.0);
        let span = |nanos| Span(Duration::from_nanos(nanos));
        WireSettings { delay: span(0), jitter: span(0), loss: none, reorder: none, rate_mbit }
    }

    #[test]
    fn a_slow_wire_has_a_buffer_in_step_with_its_rate() {
        let slow = tbf(&settings(10.0), 1500);
        assert_eq!(slow.rate_bytes_per_s, 1_250_000);
        // Two frames, and no more than two packets of the largest size in the buffer.
        assert_eq!((slow.burst_bytes, slow.limit_bytes), (3028, 3028 + 131_072));
        let fast = tbf(&settings(1000.0), 1500);
        assert_eq!((fast.burst_bytes, fast.limit_bytes), (125_000, 125_000 + 6_250_000));
        let netem = netem(&settings(1000.0), 1500, 1);
        assert_eq!(netem.limit_packets, 6_250_000 / 1514);
    }

    #[test]
    fn what_is_in_flight_finds_room_beside_what_waits() {
        let far = WireSettings { delay: Span(Duration::from_millis(100)), ..settings(0.0) };
        assert_eq!(netem(&far, 1500, 1).limit_packets, 101_000);
        // Ten megabit are 14,880 packets a second at most.
        let slow = WireSettings { rate_mbit: 10.0, ..far };
        assert_eq!(netem(&slow, 1500, 1).limit_packets, 1488 + 100);
    }

    #[test]
    fn jitter_keeps_packets_in_order() {
        let mut wire = settings(0.0);
        wire.delay = Span(Duration::from_millis(2));
        assert_eq!(netem(&wire, 1500, 1).rate_bytes_per_s, 0);
        wire.jitter = Span(Duration::from_millis(1));
        assert_eq!(netem(&wire, 1500, 1).rate_bytes_per_s, IN_ORDER_BYTES_PER_S);
        wire.rate_mbit = 100.0;
        assert_eq!(netem(&wire, 1500, 1).rate_bytes_per_s, 12_500_000);
    }
}
