// SPDX-License-Identifier: Apache-2.0
//! The file system a guest begins with: files of the host at their own places, and a few of its own.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::kernel::KernelError;

/// Most links followed for one path, the kernel's own limit (path_resolution(7)).
const LINKS_MAX: u32 = 40;

/// What stands at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// A folder with these permissions.
    Folder(u32),
    /// A symbolic link.
    Link(PathBuf),
    /// A file of the host, or its first bytes: all, or a program's mapped ones.
    File { source: PathBuf, mode: u32, program_bytes: Option<u64> },
    /// A file that the host has not.
    Text(Vec<u8>),
}

/// Nodes by absolute path: folders come before what is in them.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
}

impl Tree {
    /// Adds a file or folder of the host, with the folders and links on the way to it, so that it is
    /// found by the same name. A folder's entries do not come along. Returns where it really is.
    ///
    /// # Errors
    /// It is not there, or links lead nowhere.
    pub(super) fn host(&mut self, path: &Path) -> Result<PathBuf, KernelError> {
        self.walk(path).map_err(|source| KernelError::File {
            op: "read",
            path: path.to_owned(),
            source,
        })
    }

    fn walk(&mut self, path: &Path) -> io::Result<PathBuf> {
        let mut at = PathBuf::from("/");
        let mut links = 0;
        let mut rest: VecDeque<OsString> = parts(path);
        while let Some(part) = rest.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&part);
            let about = fs::symlink_metadata(&next)?;
            if about.is_symlink() {
                links += 1;
                if links > LINKS_MAX {
                    return Err(io::Error::other("too many links"));
                }
                let target = fs::read_link(&next)?;
                if target.is_absolute() {
                    at = "/".into();
                }
                for part in parts(&target).into_iter().rev() {
                    rest.push_front(part);
                }
                self.nodes.entry(next).or_insert(Node::Link(target));
                continue;
            }
            let mode = about.permissions().mode() & 0o7777;
            let node = if about.is_dir() {
                Node::Folder(mode)
            } else if about.is_file() {
                Node::File { source: next.clone(), mode, program_bytes: None }
            } else {
                return Err(io::Error::other("it is neither a file nor a folder"));
            };
            self.nodes.entry(next.clone()).or_insert(node);
            at = next;
        }
        Ok(at)
    }

    /// Puts a node at an absolute path without links, over what may stand there, with the folders
    /// above it.
    pub(super) fn put(&mut self, path: impl Into<PathBuf>, node: Node) {
        let path = path.into();
        for folder in path.ancestors().skip(1).filter(|folder| folder.parent().is_some()) {
            self.nodes.entry(folder.to_owned()).or_insert(Node::Folder(0o755));
        }
        self.nodes.insert(path, node);
    }

    /// All nodes with their paths, folders before what is in them.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&Path, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_path(), node))
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    use std::path::Component;
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            Component::ParentDir => Some(OsStr::new("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .map(OsStr::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_behind_links_is_found_by_the_same_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(root.join("usr/sbin")).unwrap();
        fs::create_dir(root.join("etc")).unwrap();
        fs::write(root.join("usr/sbin/multi"), "x").unwrap();
        symlink("usr/sbin", root.join("sbin")).unwrap();
        symlink(root.join("etc/alternative"), root.join("usr/sbin/tool")).unwrap();
        symlink("../usr/./sbin/multi", root.join("etc/alternative")).unwrap();

        let mut tree = Tree::default();
        let found = tree.host(&root.join("sbin/tool")).unwrap();
        assert_eq!(found, root.join("usr/sbin/multi"));
        let kinds: Vec<_> = tree
            .nodes()
            .filter_map(|(path, node)| {
                let place = path.strip_prefix(&root).ok()?.to_str()?.to_owned();
                Some((place, matches!(node, Node::Link(_)), matches!(node, Node::File { .. })))
            })
            .collect();
        let expect = [
            ("", false, false),
            ("etc", false, false),
            ("etc/alternative", true, false),
            ("sbin", true, false),
            ("usr", false, false),
            ("usr/sbin", false, false),
            ("usr/sbin/multi", false, true),
            ("usr/sbin/tool", true, false),
        ];
        assert_eq!(kinds, expect.map(|(place, link, file)| (place.to_owned(), link, file)));
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        let error = Tree::default().host(&dir.path().join("a")).unwrap_err();
        assert!(error.to_string().contains("too many links"), "{error}");
    }

    #[test]
    fn what_is_put_has_its_folders_before_it() {
        let mut tree = Tree::default();
        tree.put("/etc/a/b", Node::Text(b"x".to_vec()));
        let paths: Vec<_> = tree.nodes().map(|(path, _)| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/etc", "/etc/a", "/etc/a/b"]);
    }
}
