// SPDX-License-Identifier: Apache-2.0
//! QEMU's command line.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::accelerator::Accelerator;
use super::initramfs::INIT;
use crate::kernel::Init;

/// Name of the guest's port.
pub(super) const PORT: &str = "nic2pod";
/// Memory of the guest that only shows that KVM works, MiB: enough for any distribution's kernel to
/// come to its end.
const PROBE_MEMORY_MIB: u32 = 256;

/// What all guests of a kernel have in common.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// QEMU.
    pub(super) program: PathBuf,
    /// The boot image.
    pub(super) kernel: PathBuf,
}

impl Machine {
    /// A guest with an initramfs. Its port is the process's standard input and output, its console
    /// the standard error.
    pub(super) fn guest(&self, accelerator: &Accelerator, init: &Init, initrd: &Path) -> Command {
        let mut command = self.command(accelerator, init.memory_mib, init.cpus);
        // The kernel passes what is behind `--` to process 1 (admin-guide/kernel-parameters.rst).
        let arguments = Init::arguments(&format!("virtio:{PORT}")).join(" ");
        command
            .arg("-initrd")
            .arg(initrd)
            .args(["-append", &format!("{} rdinit={INIT} -- {arguments}", accelerator.options())])
            .args(["-device", "virtio-serial-pci"])
            .args(["-chardev", "stdio,id=port,signal=off"])
            .args(["-device", &format!("virtserialport,chardev=port,name={PORT}")]);
        command
    }

    /// A guest of the same kernel with nothing to start: it shows that it boots by panicking.
    pub(super) fn probe(&self, accelerator: &Accelerator) -> Command {
        let mut command = self.command(accelerator, PROBE_MEMORY_MIB, 1);
        command.args(["-append", accelerator.options()]);
        command
    }

    fn command(&self, accelerator: &Accelerator, memory_mib: u32, cpus: u32) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-machine", "q35", "-m", &memory_mib.to_string(), "-smp", &cpus.to_string()])
            .args(accelerator.arguments())
            // QEMU has no word for standard error; `append` keeps a file there from being emptied.
            .args(["-chardev", "file,id=console,path=/proc/self/fd/2,append=on"])
            .args(["-serial", "chardev:console"])
            .arg("-kernel")
            .arg(&self.kernel);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_one_command_line() {
        let machine = Machine { program: "qemu".into(), kernel: "/boot/vmlinuz".into() };
        let init =
            Init { program: "/bin/xtask".into(), others: Vec::new(), memory_mib: 1024, cpus: 2 };
        let tcg = Accelerator::Tcg { reason: String::new() };
        let shown = |command: &Command| {
            let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
            words.join(" ").replace(" -", "\n-")
        };
        let guest = machine.guest(&tcg, &init, Path::new("/tmp/initramfs"));
        let probe = machine.probe(&Accelerator::Kvm);
        insta::assert_snapshot!(format!("{}\n\n{}", shown(&guest), shown(&probe)));
    }
}
