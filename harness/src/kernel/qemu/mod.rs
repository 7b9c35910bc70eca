// SPDX-License-Identifier: Apache-2.0
//! Kernels of distributions as they are, in a virtual machine: QEMU boots the image with an
//! initramfs made for the occasion, of this program, the tools that modes call, and the modules.

mod accelerator;
mod bzimage;
mod elf;
mod files;
mod initramfs;
mod libraries;
mod listen;
mod machine;
mod modules;
mod port;
mod stage;
mod tools;
mod tree;
mod wanted;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use record::GuestKernel;
use tempfile::TempDir;

pub use bzimage::{BzImage, HEADER_BYTES_MAX, NotBzImage};
#[cfg(feature = "kind")]
pub(crate) use elf::forget_sections;
pub(crate) use libraries::Libraries;
pub use port::open_port;

use self::accelerator::Accelerator;
use self::files::KernelFiles;
use self::machine::Machine;
use self::tree::{Node, Tree};
use super::{Boot, Init, Kernel, KernelError, digest};
use crate::Unavailable;

const QEMU: &str = "qemu-system-x86_64";

/// Folders that process 1 mounts file systems at, and those that programs expect.
const FOLDERS: [(&str, u32); 7] = [
    ("/dev", 0o755),
    ("/proc", 0o555),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/sys", 0o555),
    ("/tmp", 0o1777),
    ("/var/lib", 0o755),
];

/// A distribution's kernel, and how guests of it are run here.
#[derive(Clone, Debug)]
pub struct Qemu {
    files: KernelFiles,
    machine: Machine,
    accelerator: Accelerator,
    facts: GuestKernel,
}

impl Qemu {
    /// The kernel in the file `which` names, or the newest in `/boot` that can be read. The first
    /// call for a kernel boots a guest to see whether KVM works, which takes up to 10 s. Memory
    /// and processors are in the facts once a guest has been described.
    ///
    /// # Errors
    /// QEMU, the kernel, its modules or an option that every guest needs is missing; one sentence
    /// says which and what supplies it.
    pub fn find(which: Option<&str>) -> Result<Self, KernelError> {
        let program = tools::find(QEMU).ok_or_else(|| {
            Unavailable::new(QEMU, "it is not installed", "apt-get install qemu-system-x86")
        })?;
        let files = KernelFiles::find(which.map(Path::new))?;
        let machine = Machine { program, kernel: files.path.clone() };
        let accelerator = Accelerator::find(&machine);
        let release = files.image.release.clone();
        let facts = GuestKernel {
            label: format!("qemu-{release}"),
            kind: "qemu".to_owned(),
            release,
            path: files.path.display().to_string(),
            sha256: digest::of_file(&files.path)?,
            config_sha256: files
                .config
                .as_ref()
                .map(|(path, _)| digest::of_file(path))
                .transpose()?,
            accelerator: accelerator.word().to_owned(),
            accelerator_reason: accelerator.reason().map(str::to_owned),
            fidelity: accelerator.fidelity(),
            memory_bytes: 0,
            cpus: 0,
            boot_ms: None,
            host: None,
        };
        Ok(Self { files, machine, accelerator, facts })
    }

    /// Writes the initramfs to a folder, in which there is room for the modules, too.
    fn initramfs(&self, init: &Init, folder: &Path) -> Result<PathBuf, KernelError> {
        let mut tree = Tree::default();
        for (path, mode) in FOLDERS {
            tree.put(path, Node::Folder(mode));
        }
        let mut libraries = Libraries::default();
        let program = libraries.of_program(&init.program)?;
        if !program.x86_64 {
            let found = "it is no program for x86_64 guests".to_owned();
            return Err(KernelError::Malformed { path: init.program.clone(), found });
        }
        initramfs::put_init(&mut tree, &init.program, program.mapped_bytes)?;

        let staged = stage::stage(&self.files, folder)?;
        tools::add(&mut tree, &mut libraries, !staged.files.is_empty())?;
        tools::add_others(&mut tree, &mut libraries, &init.others)?;
        for file in libraries.files() {
            tree.host(file)?;
        }
        // Where the host's /lib leads: usr/lib.
        let lib = tree.host(Path::new("/lib"))?;
        for file in &staged.files {
            let place = lib.join(file.strip_prefix("lib").expect("all are below lib"));
            let source = folder.join(file);
            tree.put(place, Node::File { source, mode: 0o644, program_bytes: None });
        }
        let first = staged.first.iter().map(|path| format!("{path}\n")).collect::<String>();
        tree.put(stage::FIRST_LIST, Node::Text(first.into_bytes()));
        if let Some((_, text)) = &self.files.config {
            // Where the record of a run looks for it.
            let release = &self.files.image.release;
            tree.put(format!("/boot/config-{release}"), Node::Text(text.clone().into_bytes()));
        }
        let path = folder.join("initramfs");
        let write = || -> io::Result<()> {
            let mut out = BufWriter::with_capacity(1 << 20, File::create(&path)?);
            initramfs::write(&tree, &mut out)?;
            out.flush()
        };
        write().map_err(|source| KernelError::File { op: "write", path: path.clone(), source })?;
        Ok(path)
    }
}

impl Kernel for Qemu {
    fn facts(&self) -> &GuestKernel {
        &self.facts
    }

    fn relabel(&mut self, label: String) {
        self.facts.label = label;
    }

    /// Two: an emulated one is a thread of its own.
    fn processors(&self) -> u32 {
        2
    }

    fn boot(&self, init: &Init) -> Result<Boot, KernelError> {
        let folder = TempDir::with_prefix("nic2pod-qemu-").map_err(|source| KernelError::File {
            op: "make a folder in",
            path: std::env::temp_dir(),
            source,
        })?;
        let initrd = self.initramfs(init, folder.path())?;
        let (boot_max, silence_max) = match self.accelerator {
            Accelerator::Kvm => (Duration::from_secs(30), Duration::from_secs(20)),
            // It competes with the host's other work for every instruction.
            Accelerator::Tcg { .. } => (Duration::from_secs(90), Duration::from_secs(60)),
        };
        Ok(Boot {
            one_processor: false,
            command: self.machine.guest(&self.accelerator, init, &initrd),
            silence_max,
            boot_max,
            files: Some(folder),
        })
    }
}
