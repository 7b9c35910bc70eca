// SPDX-License-Identifier: Apache-2.0
//! When which byte of which connection first passed which hop.

use super::connections::Seen;

/// Segments looked at that begin before the byte asked for. The kernel may cut a stream into
/// segments differently when it sends it again; more than a few such cuts around one byte are not
/// worth a longer search.
const LOOK_BACK: usize = 16;

/// Segments in the order of connection, hop, first byte and time.
#[derive(Debug)]
pub(super) struct Sightings {
    seen: Vec<Seen>,
    /// Whether the segment at the same index was seen again.
    repeated: Vec<bool>,
}

impl Sightings {
    pub(super) fn new(mut all: Vec<Seen>) -> Self {
        all.sort_unstable();
        let mut seen: Vec<Seen> = Vec::with_capacity(all.len());
        let mut repeated = Vec::with_capacity(all.len());
        for next in all {
            let same = |last: &&mut Seen| {
                (last.connection, last.hop, last.start) == (next.connection, next.hop, next.start)
            };
            match seen.last_mut().filter(same) {
                Some(first) if next.end <= first.end => {
                    *repeated.last_mut().expect("as long as `seen`") = true;
                }
                _ => {
                    seen.push(next);
                    repeated.push(false);
                }
            }
        }
        Self { seen, repeated }
    }

    /// When the byte at `offset` first passed `hop`, and whether it passed more than once.
    pub(super) fn first(&self, connection: u32, hop: u16, offset: i64) -> Option<(u64, bool)> {
        let behind = self
            .seen
            .partition_point(|s| (s.connection, s.hop, s.start) <= (connection, hop, offset));
        let covering = (0..behind)
            .rev()
            .take(LOOK_BACK)
            .take_while(|&i| (self.seen[i].connection, self.seen[i].hop) == (connection, hop))
            .filter(|&i| self.seen[i].end > offset);
        covering.fold(None, |first, i| {
            let (time_ns, again) = (self.seen[i].time_ns, self.repeated[i]);
            match first {
                None => Some((time_ns, again)),
                Some((earlier_ns, _)) => Some((time_ns.min(earlier_ns), true)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(start: i64, end: i64, time_ns: u64) -> Seen {
        Seen { connection: 3, hop: 1, start, time_ns, end }
    }

    #[test]
    fn a_byte_inside_a_segment_is_found_and_one_outside_is_not() {
        let sightings = Sightings::new(vec![seen(0, 100, 5), seen(200, 300, 7)]);
        assert_eq!(sightings.first(3, 1, 0), Some((5, false)));
        assert_eq!(sightings.first(3, 1, 99), Some((5, false)));
        assert_eq!(sightings.first(3, 1, 100), None);
        assert_eq!(sightings.first(3, 1, 250), Some((7, false)));
        assert_eq!(sightings.first(3, 2, 250), None);
        assert_eq!(sightings.first(2, 1, 250), None);
    }

    #[test]
    fn a_segment_sent_again_counts_when_it_was_first_seen() {
        let sightings = Sightings::new(vec![seen(0, 100, 9), seen(0, 100, 5), seen(0, 100, 7)]);
        assert_eq!(sightings.first(3, 1, 50), Some((5, true)));
    }

    #[test]
    fn a_segment_cut_differently_the_second_time_counts_when_it_was_first_seen() {
        let sightings = Sightings::new(vec![seen(0, 3000, 5), seen(1448, 2896, 9)]);
        assert_eq!(sightings.first(3, 1, 1448), Some((5, true)));
        let sightings = Sightings::new(vec![seen(0, 1448, 5), seen(0, 3000, 9)]);
        assert_eq!(sightings.first(3, 1, 2000), Some((9, false)));
        assert_eq!(sightings.first(3, 1, 10), Some((5, true)));
    }
}
