// SPDX-License-Identifier: Apache-2.0
//! The ring the probes write to, in memory shared with the kernel.
#![expect(unsafe_code, reason = "memory that the kernel writes")]

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use libbpf_rs::{MapCore, MapHandle};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::event::EVENT_BYTES_MAX;
use crate::capture::CaptureError;

/// What stands in a slot.
pub(super) enum Slot {
    /// The event that was looked for, in the first bytes.
    Event([u8; EVENT_BYTES_MAX]),
    /// It is claimed and not yet written.
    Pending,
    /// A later one has taken its place.
    Overwritten,
}

/// A mapped ring. Only ever read.
#[derive(Debug)]
pub(super) struct Ring {
    words: NonNull<AtomicU64>,
    slots: usize,
    /// Words of a slot; the last one is the event's number.
    per_slot: usize,
}

// SAFETY: the memory is the kernel's and valid until it is unmapped, which dropping does; all
// access is by atomic loads.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps the array map with the events, of `event_bytes` each: a multiple of eight, and no more than the
    /// longest. Its length has to be a power of two.
    pub(super) fn map(events: &MapHandle, event_bytes: usize) -> Result<Self, CaptureError> {
        let slots = events.max_entries() as usize;
        let failed =
            |errno: nix::Error| CaptureError::os("map", "the ring of events")(errno.into());
        let whole = event_bytes.is_multiple_of(8) && (8..=EVENT_BYTES_MAX).contains(&event_bytes);
        let fits = events.value_size() as usize == event_bytes && slots.is_power_of_two();
        let bytes = NonZeroUsize::new(slots * event_bytes).filter(|_| whole && fits);
        let bytes = bytes.ok_or(nix::Error::EINVAL).map_err(failed)?;
        // SAFETY: a new mapping, of a length the kernel checks against the map's.
        let words = unsafe {
            mmap(None, bytes, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, events.as_fd(), 0)
        };
        Ok(Self { words: words.map_err(failed)?.cast(), slots, per_slot: event_bytes / 8 })
    }

    /// Events that are kept until they are overwritten.
    pub(super) fn slots(&self) -> u64 {
        self.slots as u64
    }

    /// Bytes of an event.
    pub(super) fn event_bytes(&self) -> usize {
        self.per_slot * 8
    }

    /// Looks for an event by its number, from 0.
    pub(super) fn read(&self, event: u64) -> Slot {
        let slot = event as usize & (self.slots - 1);
        let expected = event + 1;
        let per_slot = self.per_slot;
        // SAFETY: `slot` is below `slots`, so these words are inside the mapping, which lives as
        // long as `self`; AtomicU64 allows for the kernel writing at the same time.
        let words: &[AtomicU64] = unsafe {
            std::slice::from_raw_parts(self.words.as_ptr().add(slot * per_slot), per_slot)
        };
        let number = &words[per_slot - 1];
        match number.load(Ordering::Acquire) {
            found if found < expected => return Slot::Pending,
            found if found > expected => return Slot::Overwritten,
            _ => {}
        }
        let mut bytes = [0; EVENT_BYTES_MAX];
        for (word, eight) in words.iter().zip(bytes.chunks_exact_mut(8)) {
            eight.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        // The next one in this slot may have begun meanwhile; it is a whole ring later.
        std::sync::atomic::fence(Ordering::Acquire);
        match number.load(Ordering::Relaxed) == expected {
            true => Slot::Event(bytes),
            false => Slot::Overwritten,
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let bytes = self.slots * self.event_bytes();
        // SAFETY: the very mapping that `map` made; nobody holds a reference into it.
        let unmapped = unsafe { munmap(self.words.cast(), bytes) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}
