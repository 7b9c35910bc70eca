// SPDX-License-Identifier: Apache-2.0
//! The distribution's kernel source: a package `linux-source-*`, fetched and unpacked without
//! installing it, so without root.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::super::store::Source;
use super::BuildError;
use super::runner::Runner;
use super::steps::Command;
use super::tree::Tree;
use crate::Unavailable;

/// The first Linux whose User-Mode Linux has two processors (arch/um/Kconfig, SMP); running programs
/// under seccomp, which that needs, is older.
const OLDEST: [u32; 2] = [6, 19];

/// Where Debian's suites are when the machine's own configuration does not say.
const MIRROR: &str = "http://deb.debian.org/debian/";
/// Keys that Debian's suites are signed with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const FETCHING: &str = "fetching the kernel's source";

/// A package on offer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Offer {
    pub(super) release: Vec<u32>,
    pub(super) package: String,
}

/// Fetches the newest source there is into `folder`: of the configured suites, or where those are too
/// old, of Debian's sid.
pub(super) fn fetch(folder: &Path, runner: &mut Runner<'_>) -> Result<Tree, BuildError> {
    let own = Apt { options: Vec::new() };
    let newest = offers(&runner.lines(&own.search())?).into_iter().max();
    let (apt, offer) = match newest {
        Some(offer) if offer.release.as_slice() >= OLDEST.as_slice() => (own, offer),
        older => {
            let apt = Apt::sid(folder, runner)?;
            let offer = offers(&runner.lines(&apt.search())?).into_iter().max();
            let found = older.map_or_else(|| "none".to_owned(), |offer| offer.package);
            (apt, offer.ok_or_else(|| too_old(&found))?)
        }
    };
    let package = offer.package.as_str();
    let address = address(&runner.lines(&apt.get(&["download", "--print-uris", package]))?)
        .ok_or_else(|| too_old(package))?;
    runner.run(&apt.download(folder, package))?;
    let deb = only(folder, ".deb")?;
    let version = runner.lines(&Command::new(
        FETCHING,
        "dpkg-deb",
        ["--field", &deb.to_string_lossy(), "Version"],
    ))?;
    let unpacked = folder.join("package");
    let archive = unpacked.join(format!("usr/src/{package}.tar.xz"));
    runner.run(&Command::new(
        UNPACKING,
        "dpkg-deb",
        ["-x", &deb.to_string_lossy(), &unpacked.to_string_lossy()],
    ))?;
    runner.run(&Command::new(
        UNPACKING,
        "tar",
        ["-xf", &archive.to_string_lossy(), "-C", &folder.to_string_lossy()],
    ))?;
    let version = version.first().cloned().unwrap_or_default();
    let source = Source::Package { name: package.to_owned(), version, origin: address };
    Tree::new(folder.join(package), source)
}

const UNPACKING: &str = "unpacking the kernel's source";

/// apt with its options.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// One that knows Debian's sid and nothing else, and verifies its signature. Its lists are its
    /// own: the machine's stay as they are.
    fn sid(folder: &Path, runner: &mut Runner<'_>) -> Result<Self, BuildError> {
        if !Path::new(KEYRING).is_file() {
            return Err(BuildError::Unavailable(Unavailable::new(
                "the keys of Debian's archive, to take a kernel source of 6.19 or later from sid",
                format!("no file {KEYRING}"),
                "apt-get install debian-archive-keyring, or lab kernel build --source DIR",
            )));
        }
        let configured = Command::new(
            FETCHING,
            "apt-get",
            [
                "indextargets",
                "--format",
                "$(ORIGIN) $(CODENAME) $(REPO_URI)",
                "Created-By: Packages",
            ],
        );
        let configured = runner.lines(&configured)?;
        let mirror = mirror(&configured);
        let file =
            |source, path: &Path| BuildError::File { op: "write", path: path.to_owned(), source };
        let apt = folder.join("apt");
        for part in ["lists/partial", "archives/partial"] {
            let path = apt.join(part);
            fs::create_dir_all(&path).map_err(|source| file(source, &path))?;
        }
        let list = apt.join("sources.list");
        fs::write(&list, format!("deb [signed-by={KEYRING}] {mirror} sid main\n"))
            .map_err(|source| file(source, &list))?;
        let options = [
            ("Dir::Etc::sourcelist", list.display().to_string()),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::State::Lists", apt.join("lists").display().to_string()),
            ("Dir::State::status", "/dev/null".to_owned()),
            ("Dir::Cache", apt.display().to_string()),
            ("Acquire::Languages", "none".to_owned()),
        ];
        let options = options.map(|(key, value)| format!("-o{key}={value}")).to_vec();
        let apt = Self { options };
        runner.run(&apt.get(&["update"]))?;
        Ok(apt)
    }

    fn search(&self) -> Command {
        let words = ["search", "--names-only", "^linux-source-[0-9.]+$"];
        let all = self.options.iter().map(String::as_str).chain(words);
        Command::new(FETCHING, "apt-cache", all)
    }

    fn get(&self, words: &[&str]) -> Command {
        // Fetched as whoever runs this, not as apt's own user, who cannot write into our folder.
        let common = ["-q", "-oAPT::Sandbox::User=root"];
        let options = self.options.iter().map(String::as_str);
        Command::new(
            FETCHING,
            "apt-get",
            common.into_iter().chain(options).chain(words.iter().copied()),
        )
    }

    /// apt downloads into the folder it is in.
    fn download(&self, folder: &Path, package: &str) -> Command {
        let apt = self.get(&["download", package]);
        let words = ["-C".to_owned(), folder.display().to_string(), apt.program.to_owned()];
        Command::new(FETCHING, "env", words.into_iter().chain(apt.arguments))
    }
}

/// `linux-source-6.12 - Linux kernel source for version 6.12 with Debian patches`.
pub(super) fn offers(lines: &[String]) -> Vec<Offer> {
    let offer = |line: &String| {
        let package = line.split(' ').next()?;
        let numbers = package.strip_prefix("linux-source-")?.split('.');
        let release = numbers.map(|part| part.parse().ok()).collect::<Option<Vec<u32>>>()?;
        Some(Offer { release, package: package.to_owned() })
    };
    lines.iter().filter_map(offer).collect()
}

/// `Debian bookworm http://deb.debian.org/debian/`: the machine's own mirror, which may be the only
/// one it reaches. Suites with a dash are updates, and often elsewhere.
pub(super) fn mirror(lines: &[String]) -> &str {
    let of_debian = |line: &&String| {
        let mut words = line.split(' ');
        words.next() == Some("Debian") && words.next().is_some_and(|suite| !suite.contains('-'))
    };
    let line = lines.iter().find(of_debian);
    line.and_then(|line| line.split(' ').nth(2)).unwrap_or(MIRROR)
}

/// `'http://.../linux-source-7.2_7.2.13-1_all.deb' linux-source-7.2_... 164108840 SHA256:...`.
pub(super) fn address(lines: &[String]) -> Option<String> {
    let line = lines.iter().find(|line| line.starts_with('\''))?;
    Some(line.split('\'').nth(1)?.to_owned())
}

/// The one file in `folder` with this ending.
fn only(folder: &Path, ending: &str) -> Result<PathBuf, BuildError> {
    let failed = |source| BuildError::File { op: "list", path: folder.to_owned(), source };
    for entry in folder.read_dir().map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.to_string_lossy().ends_with(ending) {
            return Ok(path);
        }
    }
    Err(failed(std::io::Error::other(format!("apt-get left no file *{ending} there"))))
}

fn too_old(found: &str) -> BuildError {
    BuildError::Unavailable(Unavailable::new(
        "a package linux-source-6.19 or later",
        found,
        "apt-get update, or lab kernel build --source DIR with a kernel tree",
    ))
}
