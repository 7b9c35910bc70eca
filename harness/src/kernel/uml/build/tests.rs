// SPDX-License-Identifier: Apache-2.0

mod fake;

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use self::fake::FakeTree;
use super::super::super::store::Source;
use super::*;

fn fragment(text: &str) -> Result<Fragment, BuildError> {
    Fragment::parse(Path::new("my.config"), text)
}

#[test]
fn every_option_of_ours_says_on_the_line_above_what_needs_it_and_none_is_there_twice() {
    let lines: Vec<_> = include_str!("../lab.config").lines().collect();
    let mut names = HashSet::new();
    for (index, line) in lines.iter().enumerate() {
        assert!(line.chars().count() <= 100, "{line}");
        if let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            let above = lines[index - 1];
            assert!(above.starts_with("# ") && above.len() > 4, "{line}: {above}");
            assert!(names.insert(name), "{name} is there twice");
        }
    }
    assert!(names.len() > 150, "{}", names.len());
}

#[test]
fn what_modes_need_is_required_and_what_kernels_differ_in_is_not() {
    let ours = Fragment::ours();
    let missing = ours.not_taken("");
    let wanted = |name: &str| missing.iter().find(|w| w.name == name).unwrap();
    for name in ["CONFIG_IP_VS", "CONFIG_IP_NF_TARGET_REJECT", "CONFIG_NET_SCH_NETEM", "CONFIG_SMP"]
    {
        assert!(wanted(name).required, "{name}");
    }
    assert!(!wanted("CONFIG_IP_NF_IPTABLES_LEGACY").required);
    // What is to be off is off where nothing is on.
    assert!(missing.iter().all(|w| w.value != "n"));
}

#[test]
fn a_fragment_is_read_as_kconfig_reads_it() {
    let text =
        "# a comment\n\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x=y\"\n CONFIG_D=42 \n";
    let all = fragment(text).unwrap();
    assert_eq!(all.text(), "CONFIG_A=y\nCONFIG_B=n\nCONFIG_C=\"x=y\"\nCONFIG_D=42\n");
    let not_taken: Vec<_> = all
        .not_taken("CONFIG_A=m\n# CONFIG_B is not set\nCONFIG_C=\"x=y\"\nCONFIG_D=420\n")
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(not_taken, ["CONFIG_A=y", "CONFIG_D=42"]);
}

#[test]
fn a_line_that_is_no_option_is_named_with_its_number() {
    for (text, line) in [("CONFIG_A=y\nIP_VS=y\n", 2), ("CONFIG_A\n", 1), ("CONFIG_A=\n", 1)] {
        let message = fragment(text).unwrap_err().to_string();
        assert!(message.starts_with(&format!("failed to read my.config:{line}: `")), "{message}");
    }
}

#[test]
fn a_users_fragment_has_the_last_word() {
    let mut all = fragment("CONFIG_A=y\nCONFIG_B=y\n").unwrap();
    all.lay_over(fragment("CONFIG_B=n\nCONFIG_C=y\n").unwrap());
    assert_eq!(all.text(), "CONFIG_A=y\nCONFIG_B=n\nCONFIG_C=y\n");
}

#[test]
fn the_steps_of_a_build_are_these() {
    let steps = steps::of(Path::new("/src/linux"), Path::new("/c/o"), Path::new("/c/linux"), 2);
    let text: Vec<_> = steps
        .iter()
        .map(|step| match step {
            Step::Run(command) => format!("{}: {command}", command.what),
            other => format!("{other:?}"),
        })
        .collect();
    insta::assert_snapshot!(text.join("\n"), @r"
    configuring: make -C /src/linux O=/c/o ARCH=um defconfig
    Configure
    configuring: make -C /src/linux O=/c/o ARCH=um olddefconfig
    Check
    building the kernel: make -C /src/linux O=/c/o ARCH=um -j2 linux
    stripping: strip -o /c/linux /c/o/linux
    ");
}

#[test]
fn a_build_runs_its_steps_out_of_tree_and_keeps_the_kernel() {
    let tree = FakeTree::new();
    tree.lacks(&["CONFIG_NETFILTER_XTABLES_LEGACY"]);
    let before = tree.listing();
    let (built, lines) = tree.build(&Cancel::default());
    let built = built.unwrap();

    let called: Vec<_> = lines.iter().filter(|line| line.starts_with("called ")).collect();
    let environment = "user nic2pod host lab version 1 time @0 locale C";
    assert_eq!(
        called,
        [
            &format!("called defconfig for um, {environment}"),
            &format!("called olddefconfig for um, {environment}"),
            &format!("called linux for um, {environment}"),
        ]
    );
    assert_eq!(built.kernel.version, "7.9.9");
    assert!(built.kernel.name.starts_with("7.9.9-"), "{}", built.kernel.name);
    assert_eq!(built.facts.toolchain, "gcc (Fake) 1.0");
    assert_eq!(built.facts.not_taken, ["CONFIG_NETFILTER_XTABLES_LEGACY=y"]);
    assert_eq!(built.facts.built_at, "2026-11-25T10:00:00+00:00");
    assert!(matches!(&built.facts.source, Source::Folder { revision: None, .. }));
    assert_eq!(tree.listing(), before, "the user's sources are as they were");
    assert_eq!(tree.store.find("7.9.9").unwrap(), built.kernel);

    // The digest is that of the configuration that is kept beside it.
    let config = std::fs::read_to_string(built.kernel.path.with_file_name("config")).unwrap();
    assert_eq!(config::digest(&config), built.kernel.config_sha256);
    assert!(config.contains("CONFIG_IP_VS=y\n") && !config.contains("dated"));
}

#[test]
fn an_option_the_source_does_not_take_is_named() {
    let tree = FakeTree::new();
    tree.lacks(&["CONFIG_IP_VS", "CONFIG_IP_VS_SH", "CONFIG_IP_NF_RAW"]);
    let (built, lines) = tree.build(&Cancel::default());
    let message = built.unwrap_err().to_string();
    assert!(message.contains(" did not take CONFIG_IP_VS=y, CONFIG_IP_VS_SH=y: "), "{message}");
    assert!(!message.contains("CONFIG_IP_NF_RAW"), "{message}");
    assert!(lines.iter().all(|line| !line.starts_with("called linux")), "minutes are saved");
    assert_eq!(tree.store.list().unwrap(), []);
}

#[test]
fn a_step_that_fails_shows_its_last_lines_and_leaves_its_log() {
    let tree = FakeTree::new();
    std::fs::write(tree.path().join("breaks"), "").unwrap();
    let message = tree.build(&Cancel::default()).0.unwrap_err().to_string();
    assert!(
        message.starts_with("failed at building the kernel: make: exit status: 2\n"),
        "{message}"
    );
    assert!(message.contains("tcp.c:1: error: no such thing"), "{message}");
    let log = tree.store.folder().join("build.log");
    assert!(message.ends_with(&format!("more in {}", log.display())), "{message}");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.starts_with("+ make -C ") && log.contains("tcp.c:1: error"), "{log}");
    let names = tree.store.folder().read_dir().unwrap();
    assert_eq!(names.count(), 1, "nothing but the log is left");
}

#[test]
fn a_stop_ends_the_build_and_all_it_started() {
    let tree = FakeTree::new();
    std::fs::write(tree.path().join("hangs"), "").unwrap();
    let (cancel, began) = (Cancel::default(), Instant::now());
    let (built, lines) = tree.build(&cancel);
    assert!(matches!(built, Err(BuildError::Stopped)), "{built:?}");
    assert!(cancel.requested() && began.elapsed() < Duration::from_secs(20));
    let pid = lines.iter().find_map(|line| line.strip_prefix("sleeper ")).unwrap();
    // Gone, or waiting for init to take notice of it.
    // A process that was killed dies when it next runs.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        if status.is_empty() || status.contains("State:\tZ") {
            break;
        }
        assert!(Instant::now() < deadline, "{status}");
        std::thread::yield_now();
    }
    assert_eq!(tree.store.folder().read_dir().unwrap().count(), 0);
}

#[test]
fn a_folder_that_cannot_be_built_from_is_refused_before_anything_is_made() {
    let tree = FakeTree::new();
    let said = |path: &Path| Tree::own(path).unwrap_err().to_string();
    assert!(said(Path::new("/nowhere")).contains("failed to build from /nowhere: No such file"));
    assert!(said(tree.store.folder().parent().unwrap()).contains("it is no kernel tree"));
    std::fs::write(tree.path().join(".config"), "").unwrap();
    assert!(said(tree.path()).contains("a kernel was configured in it"));
    std::fs::remove_file(tree.path().join(".config")).unwrap();
    std::fs::remove_dir_all(tree.path().join("arch/um")).unwrap();
    assert!(said(tree.path()).contains("there is no arch/um"));
}

#[test]
fn missing_tools_are_named_all_at_once_with_their_packages() {
    let dir = tempfile::tempdir().unwrap();
    for tool in TOOLS.iter().filter(|t| !t.name.starts_with('/') && t.name != "make") {
        let path = dir.path().join(tool.name);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let folders = [dir.path().to_owned()];
    let missing = tools::check_in(false, &folders, "x86_64").unwrap_err();
    assert!(missing.need.starts_with("make"), "{missing}");
    assert!(missing.remedy.starts_with("apt-get install make"), "{missing}");

    std::fs::remove_file(dir.path().join("xz")).unwrap();
    std::fs::remove_file(dir.path().join("bison")).unwrap();
    let missing = tools::check_in(true, &folders, "x86_64").unwrap_err();
    assert!(missing.remedy.contains("bison") && missing.remedy.contains("xz-utils"), "{missing}");
    let missing = tools::check_in(false, &folders, "x86_64").unwrap_err();
    assert!(!missing.remedy.contains("xz-utils"), "a user's own tree needs no unpacking");

    let missing = tools::check_in(false, &folders, "aarch64").unwrap_err();
    assert!(missing.need.contains("x86-64") && missing.found == "aarch64", "{missing}");
}

#[test]
fn the_newest_source_is_chosen_by_number_and_not_by_spelling() {
    let lines = [
        "linux-source - Linux kernel source (meta-package)",
        "linux-source-6.1 - Linux kernel source for version 6.1 with Debian patches",
        "linux-source-6.12 - Linux kernel source for version 6.12 with Debian patches",
        "linux-source-6.9 - Linux kernel source for version 6.9 with Debian patches",
        "linux-source-odd - something else",
        "",
    ];
    let offers = apt::offers(&lines.map(str::to_owned));
    assert_eq!(offers.len(), 3);
    assert_eq!(offers.into_iter().max().unwrap().package, "linux-source-6.12");
}

#[test]
fn sid_is_looked_for_where_the_machine_has_debian_from() {
    let mirror = |lines: &[&str]| {
        let lines: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
        apt::mirror(&lines).to_owned()
    };
    let security = "Debian bookworm-security http://mirror.example/debian-security/";
    let main = "Debian bookworm http://mirror.example/debian/";
    assert_eq!(mirror(&[security, main]), "http://mirror.example/debian/");
    assert_eq!(
        mirror(&["Ubuntu noble http://archive.ubuntu.com/ubuntu/"]),
        "http://deb.debian.org/debian/"
    );
    assert_eq!(mirror(&["", "Debian"]), "http://deb.debian.org/debian/");
    let line =
        "'http://m/linux-source-7.2_7.2.13-1_all.deb' linux-source-7.2_7.2.13-1_all.deb 1 SHA256:0";
    let address = apt::address(&["Reading".to_owned(), line.to_owned()]);
    assert_eq!(address.as_deref(), Some("http://m/linux-source-7.2_7.2.13-1_all.deb"));
}

#[test]
fn the_log_keeps_the_end_and_stays_bounded() {
    let mut log = log::Log::default();
    for number in 0..60_000 {
        log.push(&format!("line {number} of a build that says a lot"));
    }
    log.push(&"é".repeat(10_000));
    let text = log.text();
    assert!(text.len() <= 1 << 20 && text.len() > 1 << 19, "{}", text.len());
    assert!(!text.contains("line 0 ") && text.contains("line 59999 "));
    assert_eq!(log.tail().lines().count(), 12);
}

#[test]
fn more_processors_build_sooner() {
    assert_eq!(expected(2), Duration::from_secs(360));
    assert!(expected(8) < expected(2) && expected(0) == expected(1));
}
