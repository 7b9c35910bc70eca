// SPDX-License-Identifier: Apache-2.0
//! Kernels that were built here, in the user's cache folder:
//! `$XDG_CACHE_HOME/nic2pod/kernels/<version>-<first 8 digits of the configuration's SHA-256>/` with
//! `linux`, `config` and `kernel.json`; beside them the link `current` to the one in use.

mod error;
mod facts;
pub(super) mod image;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use tempfile::TempDir;

pub use error::StoreError;
pub use facts::{Facts, Source};
pub(super) use image::ask;

/// The kernel itself.
const IMAGE: &str = "linux";
/// Its configuration, as its digest is taken of.
const CONFIG: &str = "config";
/// What is known of it.
const FACTS: &str = "kernel.json";
/// Link to the kernel in use: to a folder of the store, or to a file anywhere.
const CURRENT: &str = "current";
/// Start of the names of folders that are being filled; the maker's process id follows.
const STAGING: &str = ".building-";
/// Hexadecimal digits of the configuration's digest in a kernel's name.
const DIGITS: usize = 8;

/// The folder of kernels.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

/// A kernel that can be booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKernel {
    /// Its name, `7.2.13-1a2b3c4d`; of a file outside the store, its path.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// `uname -r`, as the file itself says it.
    pub version: String,
    /// SHA-256 of its configuration without comments, hexadecimal.
    pub config_sha256: String,
}

/// A folder of the store that has a `kernel.json`, read.
type Entry = Result<(StoredKernel, Facts), StoreError>;

/// A folder that a kernel is put together in; gone when it is dropped.
#[derive(Debug)]
pub struct Staging {
    folder: TempDir,
}

impl Staging {
    /// Where the kernel's file is to be.
    pub fn image(&self) -> PathBuf {
        self.folder.path().join(IMAGE)
    }

    /// The folder, for what is needed on the way and not to be kept.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Store {
    /// The store of the user who runs this. Nothing is made on disk before a kernel is kept.
    ///
    /// # Errors
    /// Neither `XDG_CACHE_HOME` nor `HOME` says where it is.
    pub fn open() -> Result<Self, StoreError> {
        // A relative path in XDG_CACHE_HOME is to be ignored (XDG Base Directory Specification).
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let cache = absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .ok_or(StoreError::NoHome)?;
        Ok(Self::at(cache.join("nic2pod/kernels")))
    }

    /// A store in `folder`.
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The kernels in it, oldest first. What is no kernel is left out; [`Store::malformed`] has it.
    ///
    /// # Errors
    /// The folder cannot be listed. One that is not there is empty.
    pub fn list(&self) -> Result<Vec<StoredKernel>, StoreError> {
        let mut known: Vec<_> = self.entries()?.into_iter().filter_map(Result::ok).collect();
        known.sort_by(|(a, at), (b, bt)| (&at.built_at, &a.name).cmp(&(&bt.built_at, &b.name)));
        Ok(known.into_iter().map(|(kernel, _)| kernel).collect())
    }

    /// Folders that look like kernels and are none, each as the sentence that says why.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub fn malformed(&self) -> Result<Vec<StoreError>, StoreError> {
        Ok(self.entries()?.into_iter().filter_map(Result::err).collect())
    }

    /// What is known of a kernel of the store.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn facts(&self, name: &str) -> Result<Facts, StoreError> {
        self.read(&self.find(name)?.name).map(|(_, facts)| facts)
    }

    /// The kernel that [`Store::choose`] was last called with.
    ///
    /// # Errors
    /// It is gone, or no longer a kernel.
    pub fn current(&self) -> Result<Option<StoredKernel>, StoreError> {
        let link = self.folder.join(CURRENT);
        match fs::read_link(&link) {
            Ok(target) if target.is_absolute() => image::ask(&target).map(Some),
            Ok(target) => self.find(&target.to_string_lossy()).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::File { op: "read", path: link, source }),
        }
    }

    /// A kernel by its name, or by its version where one kernel only has it.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn find(&self, name: &str) -> Result<StoredKernel, StoreError> {
        let mut kernels = self.list()?;
        if let Some(at) = kernels.iter().position(|kernel| kernel.name == name) {
            return Ok(kernels.swap_remove(at));
        }
        let (mut same, others): (Vec<_>, Vec<_>) =
            kernels.into_iter().partition(|kernel| kernel.version == name);
        let names = |kernels: &[StoredKernel]| kernels.iter().map(|k| k.name.clone()).collect();
        match same.len() {
            1 => Ok(same.remove(0)),
            0 => Err(StoreError::Unknown { name: name.to_owned(), has: names(&others) }),
            _ => Err(StoreError::Ambiguous { name: name.to_owned(), has: names(&same) }),
        }
    }

    /// Makes a kernel the one in use: a name, or the path of a file (with a slash in it), which stays
    /// where it is.
    ///
    /// # Errors
    /// There is no such kernel, or the file is none.
    pub fn choose(&self, which: &str) -> Result<StoredKernel, StoreError> {
        let (kernel, target) = if which.contains('/') {
            let kernel = image::ask(Path::new(which))?;
            let target = kernel.path.clone();
            (kernel, target)
        } else {
            let kernel = self.find(which)?;
            let target = PathBuf::from(&kernel.name);
            (kernel, target)
        };
        // A link made beside and renamed: whoever reads meanwhile sees the old one or the new one.
        let staging = self.stage()?;
        let link = staging.path().join(CURRENT);
        let current = self.folder.join(CURRENT);
        symlink(target, &link)
            .and_then(|()| fs::rename(&link, &current))
            .map_err(|source| StoreError::File { op: "write", path: current, source })?;
        Ok(kernel)
    }

    /// A folder to put a kernel together in, on the store's file system.
    ///
    /// # Errors
    /// The system refuses.
    pub fn stage(&self) -> Result<Staging, StoreError> {
        let failed = |source| StoreError::File { op: "make", path: self.folder.clone(), source };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let prefix = format!("{STAGING}{}-", std::process::id());
        let folder =
            tempfile::Builder::new().prefix(&prefix).tempdir_in(&self.folder).map_err(failed)?;
        Ok(Staging { folder })
    }

    /// Takes up a kernel whose file stands in `staging`, with its configuration (normalised, as
    /// [`super::config::normalised`] does it). One of the same name is replaced, in one step.
    ///
    /// # Errors
    /// The system refuses; then the store is as it was.
    pub fn keep(
        &self,
        staging: Staging,
        config: &str,
        facts: &Facts,
    ) -> Result<StoredKernel, StoreError> {
        let from = staging.path();
        // Not what else the build needed: a kernel's folder holds three files.
        let clean = tempfile::Builder::new()
            .prefix(&format!("{STAGING}{}-", std::process::id()))
            .tempdir_in(&self.folder)
            .map_err(|source| StoreError::File { op: "make", path: self.folder.clone(), source })?;
        let to = clean.path();
        let write = |name: &str, text: &str| {
            let path = to.join(name);
            fs::write(&path, text)
                .and_then(|()| fs::File::open(&path)?.sync_all())
                .map_err(|source| StoreError::File { op: "write", path, source })
        };
        write(CONFIG, config)?;
        write(FACTS, &facts.text())?;
        let image = to.join(IMAGE);
        fs::rename(from.join(IMAGE), &image)
            .and_then(|()| fs::File::open(&image)?.sync_all())
            .map_err(|source| StoreError::File { op: "write", path: image, source })?;
        let name = name_of(&facts.version, &facts.config_sha256);
        let path = self.folder.join(&name);
        open_to_others(to)?;
        let placed = match fs::rename(to, &path) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
                ) =>
            {
                // Both names exist throughout: readers find the old kernel or the new one.
                renameat2(AT_FDCWD, to, AT_FDCWD, &path, RenameFlags::RENAME_EXCHANGE)
                    .map_err(std::io::Error::from)
            }
            // Nothing is left for the guard to remove.
            other => other.map(|()| drop(clean.keep())),
        };
        placed.map_err(|source| StoreError::File { op: "write", path, source })?;
        self.read(&name).map(|(kernel, _)| kernel)
    }

    /// Folders of builds whose process is gone.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn abandoned(&self) -> Result<Vec<PathBuf>, StoreError> {
        let dead = |name: &str| {
            let pid = name.strip_prefix(STAGING)?.split('-').next()?.parse::<u32>().ok()?;
            Some(!Path::new("/proc").join(pid.to_string()).exists())
        };
        let names = self.names()?;
        let left = names.into_iter().filter(|name| dead(name) == Some(true));
        Ok(left.map(|name| self.folder.join(name)).collect())
    }

    /// Names in the folder, sorted.
    fn names(&self) -> Result<Vec<String>, StoreError> {
        let failed = |source| StoreError::File { op: "list", path: self.folder.clone(), source };
        let listing = match self.folder.read_dir() {
            Ok(listing) => listing,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed(source)),
        };
        let mut names = Vec::new();
        for entry in listing {
            names.extend(entry.map_err(failed)?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// All that has a `kernel.json`, read. Other people's files are none of ours.
    fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        let kernels = self.names()?.into_iter().filter(|name| {
            !name.starts_with('.') && name != CURRENT && self.folder.join(name).join(FACTS).exists()
        });
        Ok(kernels.map(|name| self.read(&name)).collect())
    }

    fn read(&self, name: &str) -> Result<(StoredKernel, Facts), StoreError> {
        let folder = self.folder.join(name);
        let facts = Facts::read(&folder.join(FACTS))?;
        let malformed = |found: String| StoreError::Malformed { path: folder.clone(), found };
        let expected = name_of(&facts.version, &facts.config_sha256);
        if name != expected {
            return Err(malformed(format!("its {FACTS} is that of {expected}")));
        }
        let path = folder.join(IMAGE);
        if !path.is_file() {
            return Err(malformed(format!("it has no file {IMAGE}")));
        }
        let Facts { version, config_sha256, .. } = facts.clone();
        Ok((StoredKernel { name: name.to_owned(), path, version, config_sha256 }, facts))
    }
}

/// The name of a kernel.
fn name_of(version: &str, config_sha256: &str) -> String {
    format!("{version}-{}", config_sha256.get(..DIGITS).unwrap_or(config_sha256))
}

/// A temporary folder is its maker's alone; a kernel may be booted by whoever can reach the cache.
fn open_to_others(folder: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
        .map_err(|source| StoreError::File { op: "write", path: folder.to_owned(), source })
}
