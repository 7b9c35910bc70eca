// SPDX-License-Identifier: Apache-2.0
//! A distribution's kernel as files: the boot image, its configuration, its modules.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::bzimage::BzImage;
use super::modules::Modules;
use super::wanted::REQUIRED;
use crate::Unavailable;
use crate::kernel::KernelError;

/// Where distributions put kernels.
const BOOT: &str = "/boot";
/// Names of boot images there, before the release.
const IMAGE_PREFIX: &str = "vmlinuz-";
/// Most that is read of a configuration or an index of modules, bytes; they have less than one MiB.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// Options that are no modules, and what a guest needs them for.
const OPTIONS: [(&str, &str); 3] = [
    ("CONFIG_BLK_DEV_INITRD", "an initramfs"),
    ("CONFIG_DEVTMPFS", "devices"),
    ("CONFIG_SERIAL_8250_CONSOLE", "a console"),
];

/// A kernel that was found, and has what every guest needs.
#[derive(Clone, Debug)]
pub(super) struct KernelFiles {
    pub(super) path: PathBuf,
    pub(super) image: BzImage,
    /// Its configuration and where it is, where that is known.
    pub(super) config: Option<(PathBuf, String)>,
    /// Where its modules are; `None` for a kernel that is built without any.
    pub(super) modules_folder: Option<PathBuf>,
    pub(super) modules: Modules,
}

impl KernelFiles {
    /// The newest kernel that can be read, or the one a path names.
    ///
    /// # Errors
    /// There is none, it is no boot image, its modules are not there, or it lacks an option.
    pub(super) fn find(which: Option<&Path>) -> Result<Self, KernelError> {
        match which {
            Some(path) => Self::open(path),
            None => Self::open(&newest(Path::new(BOOT))?),
        }
    }

    fn open(path: &Path) -> Result<Self, KernelError> {
        let remedy = format!("--kernel qemu:PATH with another kernel, such as {BOOT}/vmlinuz-*");
        let image = BzImage::open(path).map_err(|source| {
            let found = format!("{}: {source}", path.display());
            let remedy = match source.kind() {
                io::ErrorKind::PermissionDenied => format!("chmod +r {}", path.display()),
                _ => remedy.clone(),
            };
            Unavailable::new("a kernel for QEMU", found, remedy)
        })?;
        let image = image.map_err(|reason| {
            let need = "a bzImage, the boot image of a 64-bit x86 kernel";
            Unavailable::new(need, format!("{}: {reason}", path.display()), remedy)
        })?;
        // A link such as /vmlinuz is no neighbour of what belongs to the image.
        let path = fs::canonicalize(path).map_err(|source| KernelError::File {
            op: "find",
            path: path.to_owned(),
            source,
        })?;
        let folder = path.parent().expect("a file's absolute path has a folder");
        let config = config(folder, &image.release);
        let modules_folder = modules_folder(folder, &image.release);
        let modules = match &modules_folder {
            Some(folder) => {
                let read = |name: &str| {
                    let path = folder.join(name);
                    text(&path).map_err(|source| KernelError::File { op: "read", path, source })
                };
                Modules::parse(&read("modules.dep")?, &read("modules.builtin")?)
            }
            None if is_off(&config, "CONFIG_MODULES") => Modules::default(),
            None => return Err(without_modules(&path, folder, &image.release).into()),
        };
        let files = Self { path: path.clone(), image, config, modules_folder, modules };
        files.check()?;
        Ok(files)
    }

    /// Whether the kernel has what every guest needs.
    fn check(&self) -> Result<(), Unavailable> {
        let release = &self.image.release;
        for (option, what) in OPTIONS {
            if is_off(&self.config, option) {
                return Err(Unavailable::new(
                    format!("kernel option {option}, for {what}"),
                    format!("{release} is built without it"),
                    "--kernel qemu:PATH with a kernel that has it",
                ));
            }
        }
        for (module, option) in REQUIRED {
            if !self.modules.have(module) && !self.is_built_in(option) {
                let found = if is_off(&self.config, option) {
                    format!("{release} is built without it")
                } else {
                    format!("{release} has it neither built in nor among its modules")
                };
                return Err(Unavailable::new(
                    format!("kernel option {option} (module {module})"),
                    found,
                    "install the package with the rest of the kernel's modules (on Ubuntu \
                     linux-modules-extra), or --kernel qemu:PATH with a kernel that has it",
                ));
            }
        }
        Ok(())
    }

    fn is_built_in(&self, option: &str) -> bool {
        let line = format!("{option}=y");
        self.config.as_ref().is_some_and(|(_, text)| text.lines().any(|l| l == line))
    }
}

/// Whether a configuration is known and sets an option neither to `y` nor to `m`.
fn is_off(config: &Option<(PathBuf, String)>, option: &str) -> bool {
    let on =
        |line: &str| line.strip_prefix(option).is_some_and(|value| value == "=y" || value == "=m");
    config.as_ref().is_some_and(|(_, text)| !text.lines().any(on))
}

/// Beside the image as Debian has it, or among the modules as Fedora has it. One that cannot be
/// read is one that is not known.
fn config(folder: &Path, release: &str) -> Option<(PathBuf, String)> {
    let named = folder.join(format!("config-{release}"));
    let beside = modules_folder(folder, release).map(|folder| folder.join("config"));
    [Some(named), beside]
        .into_iter()
        .flatten()
        .find_map(|path| Some((path.clone(), text(&path).ok()?)))
}

/// Where a kernel's modules are: beside the folder `boot` that its image was unpacked to, with the
/// image itself (Fedora), or where this machine has them. Only a folder with an index is one.
fn modules_folder(folder: &Path, release: &str) -> Option<PathBuf> {
    places(folder, release).into_iter().find(|place| place.join("modules.dep").is_file())
}

fn places(folder: &Path, release: &str) -> [PathBuf; 3] {
    [
        folder.join("../lib/modules").join(release),
        folder.to_owned(),
        Path::new("/lib/modules").join(release),
    ]
}

fn without_modules(path: &Path, folder: &Path, release: &str) -> Unavailable {
    let need = format!("the modules of {release}");
    let [beside, _, own] = places(folder, release);
    match [&beside, &own].into_iter().find(|place| place.is_dir()) {
        Some(place) => Unavailable::new(
            need,
            format!("{} without modules.dep", place.display()),
            format!(
                "depmod -b {} {release}",
                place.ancestors().nth(3).unwrap_or(Path::new("/")).display()
            ),
        ),
        None => Unavailable::new(
            need,
            format!("{}, but neither {} nor {}", path.display(), beside.display(), own.display()),
            format!("apt-get install linux-image-{release}"),
        ),
    }
}

fn text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {TEXT_BYTES_MAX} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The newest boot image of a folder that can be read.
fn newest(boot: &Path) -> Result<PathBuf, Unavailable> {
    let need = "a kernel for QEMU";
    let remedy = "apt-get install linux-image-amd64, or --kernel qemu:PATH";
    let mut images: Vec<_> = fs::read_dir(boot)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    images.retain(|path: &PathBuf| release_part(path).is_some());
    images.sort_by_key(|path| release_part(path).map(version));
    let Some(last) = images.last() else {
        let found = format!("no {}/{IMAGE_PREFIX}*", boot.display());
        return Err(Unavailable::new(need, found, remedy));
    };
    match images.iter().rev().find(|path| File::open(path).is_ok()) {
        Some(path) => Ok(path.clone()),
        // Ubuntu's are root's alone.
        None => Err(Unavailable::new(
            need,
            format!("{}, which this user may not read", last.display()),
            format!("chmod +r {}", last.display()),
        )),
    }
}

fn release_part(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_prefix(IMAGE_PREFIX)
}

/// A release as what it sorts by: its version's numbers, then the numbers behind it with the word
/// before each. 6.9 is before 6.12, and 6.1.0-rc1 before 6.1.0-40.
fn version(release: &str) -> (Vec<u64>, Vec<(u64, String)>) {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
    let (base, mut rest) = release.split_at(end);
    // A number that does not fit is none of a kernel's.
    let base = base.split('.').map(|number| number.parse().unwrap_or(0)).collect();
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(digits);
        let end = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
        parts.push((behind[..end].parse().unwrap_or(0), word.to_owned()));
        rest = &behind[end..];
    }
    (base, parts)
}

#[cfg(test)]
mod tests;
