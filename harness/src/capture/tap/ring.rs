// SPDX-License-Identifier: Apache-2.0
//! One AF_PACKET socket with a TPACKET_V3 receive ring: the only place here that touches memory it
//! shares with the kernel (`Documentation/networking/packet_mmap.rst`).
#![expect(unsafe_code, reason = "the ring is memory shared with the kernel")]

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use socket2::{SockFilter, SockRef};

use super::block::{BLOCK_STATUS_AT, Block};

/// Dimensions of a ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Bytes of a block: a power of two, at least a page. A frame has to fit into one.
    pub(super) block_bytes: usize,
    /// Number of blocks; at least two, one to fill and one to read.
    pub(super) block_count: usize,
    /// When a block that is not full is handed over, milliseconds.
    pub(super) block_timeout_ms: u32,
}

/// What the kernel counted since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Statistics {
    /// Frames that passed the filter, dropped ones included.
    pub(super) packets: u64,
    /// Frames there was no room for.
    pub(super) drops: u64,
    /// Times the ring was full.
    pub(super) freezes: u64,
}

/// A ring and its socket.
#[derive(Debug)]
pub(super) struct Ring {
    socket: OwnedFd,
    memory: NonNull<u8>,
    shape: Shape,
    next_block: usize,
}

// SAFETY: the mapping belongs to the process, not to the thread that made it, and `Ring` is its
// only owner; all access goes through `&mut self`.
unsafe impl Send for Ring {}

impl Ring {
    /// Opens a ring on an interface of the calling thread's namespace. Nothing is captured before
    /// the filter and the ring are in place: the socket has no protocol until it is bound.
    ///
    /// Errors name the step that failed.
    pub(super) fn open(
        interface: u32,
        filter: &[SockFilter],
        shape: Shape,
    ) -> Result<Self, (&'static str, io::Error)> {
        let at = |op| move |source: io::Error| (op, source);
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
            .map_err(|errno| ("open a packet socket for", errno.into()))?;
        SockRef::from(&socket).attach_filter(filter).map_err(at("attach the packet filter to"))?;
        let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
        packet_option(&socket, libc::PACKET_VERSION, &version).map_err(at("choose a ring for"))?;
        let request = libc::tpacket_req3 {
            tp_block_size: shape.block_bytes as libc::c_uint,
            tp_block_nr: shape.block_count as libc::c_uint,
            // A V3 ring has frames of any length; the kernel only checks the arithmetic.
            tp_frame_size: shape.block_bytes as libc::c_uint,
            tp_frame_nr: shape.block_count as libc::c_uint,
            tp_retire_blk_tov: shape.block_timeout_ms,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        packet_option(&socket, libc::PACKET_RX_RING, &request)
            .map_err(at("make a ring (--ring-bytes too large for the memory?) for"))?;
        let memory = map(socket.as_raw_fd(), shape.block_bytes * shape.block_count)
            .map_err(at("map the ring of"))?;
        let ring = Self { socket, memory, shape, next_block: 0 };
        bind(&ring.socket, interface).map_err(at("listen on"))?;
        Ok(ring)
    }

    /// Shows the next filled block to `visit` and gives it back to the kernel. `None` when the
    /// kernel still owns it.
    pub(super) fn take_block<T>(&mut self, visit: impl FnOnce(Block<'_>) -> T) -> Option<T> {
        let at = self.next_block * self.shape.block_bytes;
        // SAFETY: `next_block < block_count`, so `at` and the status word behind it lie inside the
        // mapping, which lives as long as `self`; a block is page-aligned and BLOCK_STATUS_AT a
        // multiple of 4. Both sides access the word only atomically.
        let status =
            unsafe { AtomicU32::from_ptr(self.memory.as_ptr().add(at + BLOCK_STATUS_AT).cast()) };
        // Acquire: what the kernel wrote before it set the status is seen below.
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: `at + block_bytes` is at most the mapping's length. With TP_STATUS_USER set the
        // kernel does not write to the block until the store below gives it back, and the slice
        // ends with `visit`.
        let bytes = unsafe {
            std::slice::from_raw_parts(self.memory.as_ptr().add(at), self.shape.block_bytes)
        };
        let result = visit(Block::new(bytes));
        // Release: our reads of the block end before the kernel may write to it.
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next_block = (self.next_block + 1) % self.shape.block_count;
        Some(result)
    }

    /// Asks for the counts since the last call, and starts new ones.
    pub(super) fn statistics(&self) -> io::Result<Statistics> {
        let mut counts = libc::tpacket_stats_v3 { tp_packets: 0, tp_drops: 0, tp_freeze_q_cnt: 0 };
        let mut bytes = size_of::<libc::tpacket_stats_v3>() as libc::socklen_t;
        // SAFETY: both pointers are to live variables, and `bytes` is the size of the first.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut counts).cast(),
                &raw mut bytes,
            )
        };
        nix::errno::Errno::result(result)?;
        Ok(Statistics {
            packets: counts.tp_packets.into(),
            drops: counts.tp_drops.into(),
            freezes: counts.tp_freeze_q_cnt.into(),
        })
    }

    /// The socket's pending error, if any; an interface that goes down leaves one.
    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        SockRef::from(&self.socket).take_error()
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: address and length are those of the mapping made in `open`, and nothing borrows
        // from it: blocks are only shown inside `take_block`.
        let result = unsafe {
            libc::munmap(
                self.memory.as_ptr().cast(),
                self.shape.block_bytes * self.shape.block_count,
            )
        };
        debug_assert_eq!(result, 0, "a mapping that was made can be unmade");
    }
}

/// Sets an option of level SOL_PACKET. `T` is the plain C type that `packet(7)` names for it.
fn packet_option<T: Copy>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer is to a live value and the length is its size; the kernel copies it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    nix::errno::Errno::result(result)?;
    Ok(())
}

fn map(socket: RawFd, bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice disturbs no other; the result is
    // checked before it is used.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            socket,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // A tool or an agent that is started meanwhile has no use for the ring: without this every fork
    // copies its page table entries, and the child keeps its memory until it has executed. On User-Mode
    // Linux 7.2 such copies end in `Bad page map` and take the guest along.
    // SAFETY: address and length are those of the mapping just made; the call changes no memory.
    let result = unsafe { libc::madvise(address, bytes, libc::MADV_DONTFORK) };
    let memory = NonNull::new(address.cast()).expect("mmap(2) does not choose address 0");
    if let Err(errno) = nix::errno::Errno::result(result) {
        // SAFETY: as above; nobody has been given the address.
        unsafe { libc::munmap(address, bytes) };
        return Err(errno.into());
    }
    Ok(memory)
}

fn bind(socket: &OwnedFd, interface: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::c_ushort,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: interface as libc::c_int,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer is to a live sockaddr_ll and the length is its size.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    nix::errno::Errno::result(result)?;
    Ok(())
}

const _: () = assert!(BLOCK_STATUS_AT.is_multiple_of(align_of::<AtomicU32>()));
const _: () = assert!(offset_of!(libc::tpacket_block_desc, hdr) == 8);
