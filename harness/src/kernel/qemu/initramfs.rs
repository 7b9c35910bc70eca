// SPDX-License-Identifier: Apache-2.0
//! The archive a guest's file system is unpacked from: cpio in the format `newc`
//! (Documentation/driver-api/early-userspace/buffer-format.rst). It is not compressed: the host
//! would compress fast what an emulated processor decompresses slowly.
//!
//! `/dev/console`, which process 1 speaks to, is in the archive that every kernel has built in
//! (usr/default_cpio_list).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::elf;
use super::tree::{Node, Tree};

/// Bits of a mode that say what it is of, and their values (inode(7)).
const KIND: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
/// Bytes of a program's file that are patched before they are written.
const PROGRAM_HEADER_BYTES: usize = 64;

/// Writes a tree. The same tree and the same files make the same bytes: entries are in the order of
/// their paths, belong to root, and have no times.
///
/// # Errors
/// A file of the tree cannot be read or has changed while it was, or `out` fails.
pub(super) fn write(tree: &Tree, out: &mut impl Write) -> io::Result<()> {
    for (number, (path, node)) in (1..).zip(tree.nodes()) {
        let name = path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes();
        let mut entry = |mode, length| header(out, number, name, mode, length);
        match node {
            Node::Folder(mode) => entry(FOLDER | mode, 0)?,
            Node::Link(target) => {
                let target = target.as_os_str().as_bytes();
                entry(LINK | 0o777, target.len() as u64)?;
                body(out, target)?;
            }
            Node::Text(bytes) => {
                entry(FILE | 0o644, bytes.len() as u64)?;
                body(out, bytes)?;
            }
            Node::File { source, mode, program_bytes } => {
                let at = |error: io::Error| {
                    io::Error::new(error.kind(), format!("{}: {error}", source.display()))
                };
                let file = File::open(source).map_err(at)?;
                let length = program_bytes.unwrap_or(file.metadata().map_err(at)?.len());
                entry(FILE | mode, length)?;
                copy(file, length, program_bytes.is_some(), out).map_err(at)?;
            }
        }
    }
    header(out, 0, b"TRAILER!!!", 0, 0)
}

/// Writes an entry's header and name.
fn header(out: &mut impl Write, ino: u32, name: &[u8], mode: u32, length: u64) -> io::Result<()> {
    let too_long = |error| {
        io::Error::other(format!("a file of 4 GiB or more does not fit in an initramfs: {error}"))
    };
    let length = u32::try_from(length).map_err(too_long)?;
    let name_length = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
    let links = if mode & KIND == FOLDER { 2 } else { 1 };
    // Owner and group, links, time, size, four device numbers, the name's length, no checksum.
    let fields = [ino, mode, 0, 0, links, 0, length, 0, 0, 0, 0, name_length, 0];
    out.write_all(b"070701")?;
    for field in fields {
        write!(out, "{field:08X}")?;
    }
    out.write_all(name)?;
    out.write_all(&[0])?;
    pad(out, 6 + 8 * fields.len() as u64 + u64::from(name_length))
}

fn body(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    pad(out, bytes.len() as u64)
}

fn copy(mut file: File, length: u64, program: bool, out: &mut impl Write) -> io::Result<()> {
    let mut start = [0; PROGRAM_HEADER_BYTES];
    let start = &mut start[..length.min(PROGRAM_HEADER_BYTES as u64) as usize];
    file.read_exact(start)?;
    if program {
        elf::forget_sections(start);
    }
    out.write_all(start)?;
    let rest = length - start.len() as u64;
    if io::copy(&mut file.take(rest), out)? != rest {
        return Err(io::Error::other("it became shorter while it was read"));
    }
    pad(out, length)
}

/// Names and bodies end at multiples of four bytes.
fn pad(out: &mut impl Write, written: u64) -> io::Result<()> {
    out.write_all(&[0; 3][..(written.wrapping_neg() % 4) as usize])
}

/// Where process 1 is.
pub(super) const INIT: &str = "/init";

/// Puts the program that becomes process 1 into a tree: at `/init`, which nothing is mounted over,
/// with a link at its own place.
///
/// # Errors
/// Its folder is not there.
pub(super) fn put_init(
    tree: &mut Tree,
    program: &Path,
    mapped_bytes: u64,
) -> Result<(), crate::kernel::KernelError> {
    let place = tree.host(program)?;
    tree.put(place.clone(), Node::Link(INIT.into()));
    tree.put(INIT, Node::File { source: place, mode: 0o755, program_bytes: Some(mapped_bytes) });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::default();
        tree.put("/etc/name", Node::Text(b"hello".to_vec()));
        tree.put("/lib", Node::Link("usr/lib".into()));
        tree.put("/tmp", Node::Folder(0o1777));
        tree
    }

    #[test]
    fn an_archive_is_what_the_format_says() {
        let mut bytes = Vec::new();
        write(&tree(), &mut bytes).unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let shown: String = String::from_utf8(bytes).unwrap().replace('\0', ".");
        insta::assert_snapshot!(shown.replace("070701", "\n070701").trim_start());
    }

    #[test]
    fn the_same_tree_makes_the_same_bytes() {
        let mut twice = [Vec::new(), Vec::new()];
        for bytes in &mut twice {
            write(&tree(), bytes).unwrap();
        }
        assert_eq!(twice[0], twice[1]);
    }

    #[test]
    fn a_program_is_process_1_and_still_at_its_own_place() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        std::fs::write(&program, [7; 200]).unwrap();
        let mut tree = Tree::default();
        put_init(&mut tree, &program, 101).unwrap();
        let link = tree.nodes().find(|(path, _)| path.ends_with("program")).unwrap().1;
        assert_eq!(link, &Node::Link("/init".into()));
        let mut bytes = Vec::new();
        write(&tree, &mut bytes).unwrap();
        let seven = bytes.iter().filter(|byte| **byte == 7).count();
        // Where the sections were counted there are zeros.
        assert_eq!(seven, 101 - 8 - 4);
    }

    #[test]
    fn a_file_that_has_gone_is_named() {
        let mut tree = Tree::default();
        let gone = Node::File { source: "/nowhere/x".into(), mode: 0o644, program_bytes: None };
        tree.put("/x", gone);
        let error = write(&tree, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/x: "), "{error}");
    }
}
