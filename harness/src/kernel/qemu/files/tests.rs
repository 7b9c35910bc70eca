// SPDX-License-Identifier: Apache-2.0

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::super::bzimage::tests::image;
use super::*;

const RELEASE: &str = "6.1.0-99-test";
const CONFIG: &str = "CONFIG_BLK_DEV_INITRD=y\nCONFIG_DEVTMPFS=y\nCONFIG_SERIAL_8250_CONSOLE=y\n\
    CONFIG_MODULES=y\nCONFIG_VIRTIO_PCI=m\nCONFIG_VIRTIO_CONSOLE=m\nCONFIG_VETH=m\n";
const DEP: &str = "kernel/virtio_pci.ko:\nkernel/virtio_console.ko.xz:\nkernel/veth.ko:\n";

/// A kernel as a package unpacks it.
fn unpacked(config: &str, dep: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let boot = dir.path().join("boot");
    fs::create_dir(&boot).unwrap();
    fs::write(boot.join(format!("vmlinuz-{RELEASE}")), image(RELEASE)).unwrap();
    fs::write(boot.join(format!("config-{RELEASE}")), config).unwrap();
    let modules = dir.path().join("lib/modules").join(RELEASE);
    fs::create_dir_all(&modules).unwrap();
    fs::write(modules.join("modules.dep"), dep).unwrap();
    fs::write(modules.join("modules.builtin"), "kernel/af_packet.ko\n").unwrap();
    dir
}

fn open(dir: &TempDir) -> Result<KernelFiles, KernelError> {
    KernelFiles::find(Some(&dir.path().join(format!("boot/vmlinuz-{RELEASE}"))))
}

fn reason(dir: &TempDir) -> Unavailable {
    match open(dir) {
        Err(KernelError::Unavailable(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_kernel_unpacked_anywhere_has_its_configuration_and_modules_beside_it() {
    let dir = unpacked(CONFIG, DEP);
    let files = open(&dir).unwrap();
    assert_eq!(files.image.release, RELEASE);
    assert_eq!(files.config.unwrap().1, CONFIG);
    assert!(files.modules_folder.unwrap().join("modules.dep").is_file());
    assert!(files.modules.have("virtio_console"));
}

#[test]
fn a_link_to_a_kernel_is_followed_before_its_neighbours_are_looked_for() {
    let dir = unpacked(CONFIG, DEP);
    let link = dir.path().join("vmlinuz");
    symlink(format!("boot/vmlinuz-{RELEASE}"), &link).unwrap();
    let files = KernelFiles::find(Some(&link)).unwrap();
    assert!(files.path.ends_with(format!("boot/vmlinuz-{RELEASE}")), "{files:?}");
    assert!(files.config.is_some());
}

#[test]
fn a_required_module_that_is_neither_there_nor_built_in_is_named_with_its_option() {
    let without = DEP.replace("kernel/virtio_console.ko.xz:\n", "");
    let found = reason(&unpacked(CONFIG, &without));
    assert_eq!(found.need, "kernel option CONFIG_VIRTIO_CONSOLE (module virtio_console)");
    assert!(found.found.contains("neither built in nor among its modules"), "{found}");
    assert!(found.remedy.contains("linux-modules-extra"), "{found}");

    let off = CONFIG.replace("CONFIG_VIRTIO_CONSOLE=m", "# CONFIG_VIRTIO_CONSOLE is not set");
    let found = reason(&unpacked(&off, &without));
    assert_eq!(found.found, format!("{RELEASE} is built without it"));
}

#[test]
fn an_option_that_is_no_module_is_named_where_it_is_off() {
    let off = CONFIG.replace("CONFIG_DEVTMPFS=y\n", "# CONFIG_DEVTMPFS is not set\n");
    let found = reason(&unpacked(&off, DEP));
    assert_eq!(found.need, "kernel option CONFIG_DEVTMPFS, for devices");
}

#[test]
fn modules_that_are_missing_or_not_indexed_are_said_with_the_remedy() {
    let dir = unpacked(CONFIG, DEP);
    let modules = dir.path().join("lib/modules").join(RELEASE);
    fs::remove_file(modules.join("modules.dep")).unwrap();
    let found = reason(&dir);
    assert!(found.found.ends_with("without modules.dep"), "{found}");
    assert!(found.remedy.starts_with("depmod -b ") && found.remedy.ends_with(RELEASE), "{found}");
    fs::remove_dir_all(&modules).unwrap();
    let found = reason(&dir);
    assert_eq!(found.need, format!("the modules of {RELEASE}"));
    assert_eq!(found.remedy, format!("apt-get install linux-image-{RELEASE}"));
}

#[test]
fn a_kernel_without_any_modules_needs_none_where_all_is_built_in() {
    let dir = unpacked(&CONFIG.replace("CONFIG_MODULES=y\n", "").replace("=m", "=y"), DEP);
    fs::remove_dir_all(dir.path().join("lib")).unwrap();
    let files = open(&dir).unwrap();
    assert_eq!(files.modules_folder, None);
}

#[test]
fn a_file_that_is_no_kernel_is_said_to_be_none() {
    let dir = unpacked(CONFIG, DEP);
    fs::write(dir.path().join(format!("boot/vmlinuz-{RELEASE}")), [0; 8192]).unwrap();
    let found = reason(&dir);
    assert!(found.need.starts_with("a bzImage") && found.found.contains("HdrS"), "{found}");
    fs::remove_file(dir.path().join(format!("boot/vmlinuz-{RELEASE}"))).unwrap();
    let found = reason(&dir);
    assert!(found.found.contains("No such file"), "{found}");
}

#[test]
fn the_newest_kernel_is_the_one_with_the_highest_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let found = newest(dir.path()).unwrap_err();
    assert!(found.found.contains("vmlinuz-*"), "{found}");
    for release in ["6.9.0-1-amd64", "6.12.3-amd64", "6.12.3-rc1-amd64", "5.99.0", "6.12-amd64"] {
        fs::write(dir.path().join(format!("vmlinuz-{release}")), "").unwrap();
    }
    fs::write(dir.path().join("initrd.img-9.0"), "").unwrap();
    assert!(newest(dir.path()).unwrap().ends_with("vmlinuz-6.12.3-amd64"));
}
