// SPDX-License-Identifier: Apache-2.0

use std::os::unix::fs::PermissionsExt;

use super::*;

fn facts(version: &str, digit: char, built_at: &str) -> Facts {
    Facts {
        version: version.to_owned(),
        config_sha256: digit.to_string().repeat(64),
        source: Source::Folder { path: "/src/linux".to_owned(), revision: None },
        built_at: built_at.to_owned(),
        seconds: 360,
        toolchain: "gcc 12.2.0".to_owned(),
        not_taken: Vec::new(),
    }
}

fn keep(store: &Store, facts: &Facts, content: &str) -> StoredKernel {
    let staging = store.stage().unwrap();
    fs::write(staging.image(), content).unwrap();
    fs::create_dir(staging.path().join("objects")).unwrap();
    store.keep(staging, "CONFIG_UML=y\n", facts).unwrap()
}

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().join("kernels"));
    (dir, store)
}

/// A program that answers as a kernel does.
fn answering(path: &Path, version: &str, config: &str) {
    let script = format!(
        "#!/bin/sh\ncase $1 in --version) echo '{version}';; --showconfig) echo '{config}';; esac\n"
    );
    // Written by another process: a descriptor open for writing here, in a child of another test,
    // would make the file busy.
    let write = "printf '%s' \"$2\" >\"$1\" && chmod +x \"$1\"";
    let status = std::process::Command::new("sh")
        .args(["-c", write, "sh", path.to_str().unwrap(), &script])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_store_that_nobody_made_is_empty_and_stays_unmade() {
    let (_dir, store) = store();
    assert_eq!(store.list().unwrap(), []);
    assert_eq!(store.current().unwrap(), None);
    assert!(store.malformed().unwrap().is_empty() && store.abandoned().unwrap().is_empty());
    assert!(!store.folder().exists());
}

#[test]
fn what_is_kept_is_found_by_name_and_by_a_version_that_one_kernel_has() {
    let (_dir, store) = store();
    let newer = keep(&store, &facts("7.2.13", 'b', "2026-11-25T10:00:00Z"), "b");
    let older = keep(&store, &facts("7.1.2", 'a', "2026-11-24T10:00:00Z"), "a");
    assert_eq!(newer.name, "7.2.13-bbbbbbbb");
    assert_eq!(store.list().unwrap(), [older.clone(), newer.clone()]);
    assert_eq!(store.find("7.2.13-bbbbbbbb").unwrap(), newer);
    assert_eq!(store.find("7.1.2").unwrap(), older);
    assert_eq!(store.facts("7.1.2").unwrap().seconds, 360);

    keep(&store, &facts("7.1.2", 'c', "2026-11-25T11:00:00Z"), "c");
    let message = store.find("7.1.2").unwrap_err().to_string();
    assert_eq!(message, "`7.1.2` is one of 7.1.2-aaaaaaaa, 7.1.2-cccccccc; give its whole name");
}

#[test]
fn a_kernels_folder_holds_three_files_and_is_readable_by_others() {
    let (_dir, store) = store();
    let kernel = keep(&store, &facts("7.2.13", 'b', "2026-11-25T10:00:00Z"), "b");
    let folder = kernel.path.parent().unwrap();
    let mut files: Vec<_> =
        folder.read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    files.sort_unstable();
    assert_eq!(files, ["config", "kernel.json", "linux"]);
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(store.names().unwrap(), ["7.2.13-bbbbbbbb"], "nothing is left of its making");
}

#[test]
fn a_kernel_built_again_replaces_the_old_one_and_leaves_nothing_of_it() {
    let (_dir, store) = store();
    keep(&store, &facts("7.2.13", 'b', "2026-11-25T10:00:00Z"), "old");
    store.choose("7.2.13").unwrap();
    let again = keep(&store, &facts("7.2.13", 'b', "2026-11-25T12:00:00Z"), "new");
    assert_eq!(fs::read_to_string(&again.path).unwrap(), "new");
    assert_eq!(store.current().unwrap(), Some(again));
    assert_eq!(store.names().unwrap(), ["7.2.13-bbbbbbbb", "current"]);
}

#[test]
fn a_reader_never_meets_half_a_kernel_while_it_is_replaced() {
    let (_dir, store) = store();
    let facts = facts("7.2.13", 'b', "2026-11-25T10:00:00Z");
    keep(&store, &facts, "x");
    let done = std::sync::atomic::AtomicBool::new(false);
    let looked = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looked = 0_u32;
            while !done.load(std::sync::atomic::Ordering::Relaxed) || looked == 0 {
                assert_eq!(store.list().unwrap().len(), 1);
                looked += 1;
            }
            looked
        });
        for _ in 0..100 {
            keep(&store, &facts, "x");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(looked > 0);
}

#[test]
fn a_build_that_fails_leaves_the_store_as_it_was() {
    let (_dir, store) = store();
    let staging = store.stage().unwrap();
    // No image was built.
    let facts = facts("7.2.13", 'b', "2026-11-25T10:00:00Z");
    let message = store.keep(staging, "CONFIG_UML=y\n", &facts).unwrap_err().to_string();
    assert!(message.starts_with("failed to write ") && message.contains("linux"), "{message}");
    assert!(store.names().unwrap().is_empty());
}

#[test]
fn bad_facts_are_named_and_hide_no_other_kernel() {
    let (_dir, store) = store();
    keep(&store, &facts("7.2.13", 'b', "2026-11-25T10:00:00Z"), "b");
    let good = store.facts("7.2.13").unwrap();
    let bad = |name: &str, text: &str| {
        let folder = store.folder().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("linux"), "x").unwrap();
        fs::write(folder.join("kernel.json"), text).unwrap();
    };
    bad("a-torn", "{\"version\": \"7.");
    bad("b-moved", &good.text());
    bad("c-short", &good.text().replace(&good.config_sha256, "bbbb"));
    bad("d-way-out", &good.text().replace("\"7.2.13\"", "\"../../7.2.13\""));
    bad("e-strange", &good.text().replace("\"seconds\"", "\"minutes\""));
    fs::remove_file(store.folder().join("7.2.13-bbbbbbbb/linux")).unwrap();
    keep(&store, &facts("6.19.1", 'c', "2026-11-25T10:00:00Z"), "c");

    let names: Vec<_> = store.list().unwrap().into_iter().map(|k| k.name).collect();
    assert_eq!(names, ["6.19.1-cccccccc"]);
    let said: Vec<_> = store.malformed().unwrap().iter().map(ToString::to_string).collect();
    let expected = [
        "7.2.13-bbbbbbbb: it has no file linux",
        "a-torn/kernel.json: EOF while parsing",
        "b-moved: its kernel.json is that of 7.2.13-bbbbbbbb",
        "c-short/kernel.json: config_sha256 is not 64 hexadecimal digits",
        "d-way-out/kernel.json: `../../7.2.13` is no version of a kernel",
        "e-strange/kernel.json: unknown field `minutes`",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn other_peoples_files_are_left_alone() {
    let (_dir, store) = store();
    keep(&store, &facts("7.2.13", 'b', "2026-11-25T10:00:00Z"), "b");
    fs::write(store.folder().join("notes.txt"), "mine").unwrap();
    fs::create_dir(store.folder().join("old")).unwrap();
    fs::write(store.folder().join("old/linux"), "mine, too").unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
    assert!(store.malformed().unwrap().is_empty());
}

#[test]
fn only_builds_of_dead_processes_are_abandoned() {
    let (_dir, store) = store();
    let _alive = store.stage().unwrap();
    // Above the largest process id that Linux gives, so nobody's.
    let dead = store.folder().join(".building-4194999-x");
    fs::create_dir(&dead).unwrap();
    assert_eq!(store.abandoned().unwrap(), [dead]);
}

#[test]
fn a_name_that_is_not_there_cannot_be_chosen_and_those_that_are_get_named() {
    let (_dir, store) = store();
    let message = store.choose("7.2.13").unwrap_err().to_string();
    assert_eq!(
        message,
        "no kernel is called `7.2.13`; none is built: cargo xtask lab kernel build"
    );
    let kernel = keep(&store, &facts("7.2.13", 'b', "2026-11-25T10:00:00Z"), "b");
    store.choose("7.2.13").unwrap();
    for wrong in ["7.2", "..", "current", "", ".building"] {
        let message = store.choose(wrong).unwrap_err().to_string();
        assert!(message.ends_with("; there are 7.2.13-bbbbbbbb"), "{message}");
    }
    assert_eq!(store.current().unwrap(), Some(kernel.clone()));

    fs::remove_dir_all(kernel.path.parent().unwrap()).unwrap();
    let message = store.current().unwrap_err().to_string();
    assert!(message.starts_with("no kernel is called `7.2.13-bbbbbbbb`"), "{message}");
}

#[test]
fn a_file_outside_the_store_is_asked_what_it_is() {
    let (dir, store) = store();
    let file = dir.path().join("linux");
    answering(&file, "7.3.0-rc1-00012-gabc", "# dated\nCONFIG_UML=y");
    let chosen = store.choose(file.to_str().unwrap()).unwrap();
    assert_eq!(chosen.version, "7.3.0-rc1-00012-gabc");
    assert_eq!(chosen.config_sha256, super::super::config::digest("CONFIG_UML=y\n"));
    assert_eq!(store.current().unwrap(), Some(chosen));

    // Built again in its place: the store does not remember what it was.
    answering(&file, "7.3.0-rc2", "CONFIG_UML=y");
    assert_eq!(store.current().unwrap().unwrap().version, "7.3.0-rc2");

    for (version, config, words) in [
        ("7.3.0", "CONFIG_X86=y", "--showconfig does not say so"),
        ("rm (GNU coreutils) 9.1", "CONFIG_UML=y", "--version is no release"),
    ] {
        answering(&file, version, config);
        let message = store.choose(file.to_str().unwrap()).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
    fs::remove_file(&file).unwrap();
    let message = store.current().unwrap_err().to_string();
    assert!(message.starts_with("failed to find "), "{message}");
}
