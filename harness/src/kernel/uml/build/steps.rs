// SPDX-License-Identifier: Apache-2.0
//! The steps of a build, as data.

use std::fmt;
use std::path::Path;

/// A program to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// What it is for: `building the kernel`.
    pub(super) what: &'static str,
    pub(super) program: &'static str,
    pub(super) arguments: Vec<String>,
}

impl Command {
    pub(super) fn new<S: Into<String>>(
        what: &'static str,
        program: &'static str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        Self { what, program, arguments: arguments.into_iter().map(Into::into).collect() }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.program, self.arguments.join(" "))
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A program runs.
    Run(Command),
    /// The fragment is laid over the configuration.
    Configure,
    /// All that was asked for has to have been taken.
    Check,
}

/// Variables that every program of a build runs with. Who built a kernel, where and when is in
/// `kernel.json`; in the kernel it would make two builds of one source differ.
pub(super) const ENVIRONMENT: [(&str, &str); 5] = [
    ("LC_ALL", "C"),
    ("KBUILD_BUILD_USER", "nic2pod"),
    ("KBUILD_BUILD_HOST", "lab"),
    ("KBUILD_BUILD_VERSION", "1"),
    // Any text; also for `date --date` (usr/gen_initramfs.sh), which takes it as seconds.
    ("KBUILD_BUILD_TIMESTAMP", "@0"),
];

/// Variables that would lead a build astray.
pub(super) const STRAY: [&str; 9] = [
    "MAKEFLAGS",
    "MFLAGS",
    "MAKELEVEL",
    "ARCH",
    "SUBARCH",
    "CROSS_COMPILE",
    "KBUILD_OUTPUT",
    "KCONFIG_CONFIG",
    "KCONFIG_ALLCONFIG",
];

/// From a tree to a kernel in `image`, everything made on the way in `objects`.
pub(super) fn of(tree: &Path, objects: &Path, image: &Path, jobs: usize) -> Vec<Step> {
    let make = |what, more: &[&str]| {
        let arguments =
            ["-C", &tree.to_string_lossy(), &format!("O={}", objects.display()), "ARCH=um"]
                .into_iter()
                .map(str::to_owned)
                .chain(more.iter().map(|&word| word.to_owned()))
                .collect::<Vec<_>>();
        Step::Run(Command::new(what, "make", arguments))
    };
    let built = objects.join("linux").to_string_lossy().into_owned();
    let image = image.to_string_lossy().into_owned();
    vec![
        make("configuring", &["defconfig"]),
        Step::Configure,
        make("configuring", &["olddefconfig"]),
        Step::Check,
        make("building the kernel", &[&format!("-j{jobs}"), "linux"]),
        // Debugging information is four fifths of the file. BTF is a section of the kernel's own.
        Step::Run(Command::new("stripping", "strip", ["-o".to_owned(), image, built])),
    ]
}
