// SPDX-License-Identifier: Apache-2.0
//! Where a guest's memory lives: an unlinked file in TMPDIR (arch/um/os-Linux/mem.c). On a disk every
//! page of the guest would be written there in time.

use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::statvfs;

use crate::Unavailable;

/// Folders that are a tmpfs on most machines, in the order they are tried.
fn candidates() -> Vec<PathBuf> {
    let of_user = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    ["/dev/shm"].into_iter().map(PathBuf::from).chain(of_user).chain(["/tmp".into()]).collect()
}

/// A tmpfs with room for a guest's memory.
pub(super) fn folder(memory_mib: u32) -> Result<PathBuf, Unavailable> {
    choose(&candidates(), memory_mib)
}

fn choose(folders: &[PathBuf], memory_mib: u32) -> Result<PathBuf, Unavailable> {
    let mut found = Vec::new();
    for folder in folders {
        match room_mib(folder) {
            Some(room) if room >= u64::from(memory_mib) => return Ok(folder.clone()),
            Some(room) => found.push(format!("{} has room for {room} MiB", folder.display())),
            None => found.push(format!("{} is none", folder.display())),
        }
    }
    Err(Unavailable::new(
        format!("a tmpfs with room for the guest's {memory_mib} MiB of memory"),
        found.join(", "),
        "make room there, or lower lab.guest_memory_mib",
    ))
}

/// Room on a tmpfs, MiB; `None` where the folder is on another file system or not there.
fn room_mib(folder: &Path) -> Option<u64> {
    if statfs(folder).ok()?.filesystem_type() != TMPFS_MAGIC {
        return None;
    }
    let of = statvfs(folder).ok()?;
    Some((of.blocks_available() * of.fragment_size()) >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tmpfs_that_is_too_small_and_a_disk_are_named_with_what_they_have() {
        let error = choose(&["/dev/shm".into(), "/proc".into()], u32::MAX).unwrap_err();
        assert!(error.need.contains("4294967295 MiB"), "{error}");
        assert!(error.found.contains("/proc is none"), "{error}");
        assert!(error.remedy.contains("lab.guest_memory_mib"), "{error}");
    }
}
