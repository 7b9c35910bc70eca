// SPDX-License-Identifier: Apache-2.0
//! User-Mode Linux: a kernel as an ordinary process of an ordinary user (Documentation/virt/uml in
//! the kernel's tree). The machine's files are the guest's, read-only.

pub mod build;
mod memory;

use std::env::temp_dir;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use record::{Fidelity, GuestKernel};

use super::store::{Store, StoredKernel, image};
use super::{Boot, Init, Kernel, KernelError, digest};
use crate::Unavailable;

/// A guest says that it is alive every second; a machine so busy that thirty are missing measures
/// nothing.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// A boot takes a third of a second.
const BOOT_MAX: Duration = Duration::from_secs(30);

/// A User-Mode Linux kernel.
#[derive(Debug)]
pub struct Uml {
    facts: GuestKernel,
}

impl Uml {
    /// A kernel by its name in the store or its path; where nothing is said the one in use, or the
    /// one that was built last.
    ///
    /// # Errors
    /// There is none, or it is no User-Mode Linux.
    pub fn find(which: Option<&str>) -> Result<Self, KernelError> {
        match which {
            Some(path) if path.contains('/') => Self::new(image::ask(Path::new(path))?),
            Some(name) => Self::new(Store::open()?.find(name)?),
            None => {
                let store = Store::open()?;
                let kernel = match store.current()? {
                    Some(kernel) => Some(kernel),
                    None => store.list()?.pop(),
                };
                Self::new(kernel.ok_or_else(|| none("none built, and none named"))?)
            }
        }
    }

    fn new(kernel: StoredKernel) -> Result<Self, KernelError> {
        let facts = GuestKernel {
            label: format!("uml-{}", kernel.version),
            kind: "uml".to_owned(),
            sha256: digest::of_file(&kernel.path)?,
            path: kernel.path.display().to_string(),
            release: kernel.version,
            config_sha256: Some(kernel.config_sha256),
            accelerator: "process".to_owned(),
            accelerator_reason: None,
            fidelity: Fidelity::Relative,
            memory_bytes: 0,
            cpus: 0,
            boot_ms: None,
            host: None,
        };
        Ok(Self { facts })
    }
}

impl Kernel for Uml {
    fn facts(&self) -> &GuestKernel {
        &self.facts
    }

    fn relabel(&mut self, label: String) {
        self.facts.label = label;
    }

    /// One: waking what sleeps on another processor is a signal to another thread of the host's, and
    /// on two a request takes several times as long (docs/kernels.md).
    fn processors(&self) -> u32 {
        1
    }

    fn boot(&self, init: &Init) -> Result<Boot, KernelError> {
        let memory = memory::folder(init.memory_mib)?;
        // Its sockets and process id; without a word it takes HOME, and panics where it may not.
        let own = tempfile::Builder::new()
            .prefix(&format!("nic2pod-{}-", std::process::id()))
            .tempdir()
            .map_err(|source| KernelError::File {
                op: "make a folder in",
                path: temp_dir(),
                source,
            })?;
        let mut command = Command::new(&self.facts.path);
        command
            // Two processors need the seccomp mode of running guest code.
            .args(["seccomp=on".to_owned(), format!("ncpus={}", init.cpus)])
            .arg(format!("mem={}M", init.memory_mib))
            .args(["root=/dev/root", "rootfstype=hostfs", "hostfs=/", "ro"])
            .arg(format!("uml_dir={}/", path_word(own.path())?))
            .arg(format!("init={}", path_word(&init.program)?))
            // The console is standard error, the first serial line standard input and output.
            .args(["con=null", "con0=null,fd:2", "ssl=null", "ssl0=fd:0,fd:1"])
            // Named, or the kernel adds a console of its own behind the arguments of process 1.
            .args(["console=tty0", "quiet", "panic=-1", "--"])
            .args(Init::arguments("/dev/ttyS0"))
            .env("TMPDIR", memory);
        Ok(Boot {
            command,
            // Each system call of the guest hands over between two processes of the host's, which take
            // turns: on one processor that is a switch, across two the wake-up of an idle one.
            one_processor: init.cpus == 1,
            silence_max: SILENCE_MAX,
            boot_max: BOOT_MAX,
            files: Some(own),
        })
    }
}

/// A path as one word of a kernel's command line, which is split at spaces.
fn path_word(path: &Path) -> Result<String, KernelError> {
    match path.to_str() {
        Some(text) if !text.contains(|c: char| c.is_whitespace() || c == '"') => {
            Ok(text.to_owned())
        }
        _ => Err(KernelError::Malformed {
            path: PathBuf::from(path),
            found: "a kernel's command line cannot name a path with spaces or quotes in it".into(),
        }),
    }
}

/// What is said where no kernel of this kind is to be had.
fn none(found: impl Into<String>) -> KernelError {
    Unavailable::new("a User-Mode Linux kernel", found, "cargo xtask lab kernel build").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_kernel_is_refused_before_anything_boots() {
        for (path, why) in [
            ("/bin/true", "no User-Mode Linux kernel"),
            ("/proc/version", "failed to run"),
            ("/no/kernel", "failed to find"),
        ] {
            let error = Uml::find(Some(path)).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn a_program_that_a_command_line_cannot_name_is_refused() {
        assert_eq!(path_word(Path::new("/a/b-c.d")).unwrap(), "/a/b-c.d");
        assert!(path_word(Path::new("/a b/c")).is_err());
    }
}
