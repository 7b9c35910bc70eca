// SPDX-License-Identifier: Apache-2.0

use super::*;

/// The kernel that NIC2POD_QEMU_KERNEL names, with its modules.
fn kernel() -> Option<KernelFiles> {
    let Some(path) = std::env::var_os("NIC2POD_QEMU_KERNEL") else {
        eprintln!("SKIP NIC2POD_QEMU_KERNEL names no kernel");
        return None;
    };
    Some(KernelFiles::find(Some(Path::new(&path))).unwrap())
}

#[test]
fn modules_that_are_packed_become_what_they_were() {
    let Some(kernel) = kernel() else { return };
    let plain = tempfile::tempdir().unwrap();
    let staged = stage(&kernel, plain.path()).unwrap();
    let at = |ending: &str| staged.first.iter().position(|path| path.ends_with(ending)).unwrap();
    assert!(at("/virtio.ko") < at("/virtio_console.ko"), "{:?}", staged.first);
    let index = staged.files.iter().any(|path| path.ends_with("modules.dep.bin"));
    assert!(index, "{:?}", staged.files);

    let modules: Vec<_> =
        staged.files.iter().filter(|path| path.extension().is_some_and(|e| e == "ko")).collect();
    let before: Vec<_> =
        modules.iter().map(|path| fs::read(plain.path().join(path)).unwrap()).collect();
    let release = &kernel.image.release;
    let mut pack = Command::new("xz");
    pack.arg("-0").args(modules.iter().map(|path| plain.path().join(path)));
    assert!(pack.status().unwrap().success());
    let folder = plain.path().join("lib/modules").join(release);
    let index = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let dep = index("modules.dep").replace(".ko", ".ko.xz");
    let packed = KernelFiles {
        modules: super::super::modules::Modules::parse(&dep, &index("modules.builtin")),
        modules_folder: Some(folder.clone()),
        ..kernel
    };

    let again = tempfile::tempdir().unwrap();
    let unpacked = stage(&packed, again.path()).unwrap();
    let sorted = |mut paths: Vec<String>| {
        paths.sort();
        paths
    };
    assert_eq!(sorted(unpacked.first), sorted(staged.first));
    for (path, bytes) in modules.iter().zip(&before) {
        assert_eq!(&fs::read(again.path().join(path)).unwrap(), bytes, "{}", path.display());
    }
}

#[test]
fn a_program_that_is_missing_or_fails_is_said() {
    let missing = run(Command::new("no-such-program"), "packs modules", "a-package").unwrap_err();
    assert_eq!(
        missing.to_string(),
        "needs a program that packs modules; found it is not installed; \
         try: apt-get install a-package"
    );
    let mut fails = Command::new("sh");
    fails.args(["-c", "echo no room >&2; exit 1"]);
    let error = run(fails, "", "").unwrap_err();
    assert_eq!(error.to_string(), "failed to use sh: no room");
}
