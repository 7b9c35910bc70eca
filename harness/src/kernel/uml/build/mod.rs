// SPDX-License-Identifier: Apache-2.0
//! Building one: from the distribution's kernel source or the user's own tree, with the project's
//! configuration (`lab.config`), out of tree, into the store.

mod apt;
mod error;
mod fragment;
mod log;
mod runner;
mod steps;
#[cfg(test)]
mod tests;
mod tools;
mod tree;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

pub use error::BuildError;
pub use fragment::{Fragment, Wanted};
pub use tools::{TOOLS, Tool};

use self::runner::Runner;
use self::steps::Step;
use self::tree::Tree;
use super::super::config;
use super::super::store::{Facts, Staging, Store, StoredKernel, ask};
use crate::{Cancel, Unavailable};

/// What one processor takes to build a kernel with our configuration; seen on two: six minutes.
const PROCESSOR_SECONDS: u64 = 720;
/// Room that a build takes at its peak, bytes: 1.8 GiB of sources, their package twice over, and
/// 1.6 GiB of objects. The tests' tree is kilobytes.
const ROOM_BYTES: u64 = if cfg!(test) { 1 << 20 } else { 5 << 30 };

/// What to build.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The user's own kernel tree; without one, the distribution's source is taken.
    pub source: Option<PathBuf>,
    /// A further fragment laid over ours.
    pub config: Option<PathBuf>,
    /// The time now, RFC 3339, for the record.
    pub now: String,
}

/// What a build does, for whoever watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing<'a> {
    /// A step begins: `building the kernel`.
    Step(&'a str),
    /// A program wrote a line.
    Line(&'a str),
}

/// A kernel that was built.
#[derive(Clone, Debug)]
pub struct Built {
    /// It, in the store.
    pub kernel: StoredKernel,
    /// What is known of it.
    pub facts: Facts,
}

/// How long a build takes with as many processors, roughly; a download comes on top.
pub fn expected(processors: u32) -> Duration {
    Duration::from_secs(PROCESSOR_SECONDS / u64::from(processors.max(1)))
}

/// Builds a kernel and keeps it. A stop asked for through `cancel` ends it within a second.
///
/// # Errors
/// A tool is missing, the source is none, an option of the configuration was not taken, or a step
/// failed: then the end of what the programs wrote is in the store as `build.log`.
pub fn build(
    store: &Store,
    request: &Request,
    cancel: &Cancel,
    tell: &mut dyn FnMut(Doing<'_>),
) -> Result<Built, BuildError> {
    let asked = Asked::new(request)?;
    tools::check(request.source.is_none())?;
    asked.build(store, &request.now, cancel, tell)
}

/// A request that can be carried out: what it names was read.
struct Asked {
    fragment: Fragment,
    /// The user's own tree.
    own: Option<Tree>,
}

impl Asked {
    fn new(request: &Request) -> Result<Self, BuildError> {
        let mut fragment = Fragment::ours();
        if let Some(path) = &request.config {
            fragment.lay_over(Fragment::read(path)?);
        }
        let own = request.source.as_deref().map(Tree::own).transpose()?;
        Ok(Self { fragment, own })
    }

    fn build(
        self,
        store: &Store,
        now: &str,
        cancel: &Cancel,
        tell: &mut dyn FnMut(Doing<'_>),
    ) -> Result<Built, BuildError> {
        let began = Instant::now();
        let staging = store.stage()?;
        let mut runner = Runner::new(cancel, tell);
        let done = check_room(&staging).and_then(|()| {
            let tree = match self.own {
                Some(tree) => tree,
                None => apt::fetch(staging.path(), &mut runner)?,
            };
            let taken = carry_out(&tree, &self.fragment, &staging, &mut runner)?;
            Ok((tree, taken))
        });
        let (tree, Taken { config, not_taken }) = match done {
            Ok(done) => done,
            Err(error) => return Err(runner.keep_log(store, error)),
        };
        let facts = Facts {
            version: ask(&staging.image())?.version,
            config_sha256: config::digest(&config),
            source: tree.source,
            built_at: now.to_owned(),
            seconds: began.elapsed().as_secs(),
            toolchain: compiler(&config),
            not_taken,
        };
        let kernel = store.keep(staging, &config, &facts)?;
        Ok(Built { kernel, facts })
    }
}

/// The configuration that a source made of a fragment.
struct Taken {
    config: String,
    not_taken: Vec<String>,
}

fn carry_out(
    tree: &Tree,
    fragment: &Fragment,
    staging: &Staging,
    runner: &mut Runner<'_>,
) -> Result<Taken, BuildError> {
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let objects = staging.path().join("objects");
    let file = |op, path: &PathBuf| {
        let path = path.clone();
        move |source| BuildError::File { op, path, source }
    };
    fs::create_dir(&objects).map_err(file("make", &objects))?;
    let path = objects.join(".config");
    let mut taken = None;
    for step in steps::of(&tree.path, &objects, &staging.image(), jobs) {
        match step {
            Step::Run(command) => runner.run(&command)?,
            Step::Configure => {
                let base = fs::read_to_string(&path).map_err(file("read", &path))?;
                // The last word on an option wins (scripts/kconfig/confdata.c).
                fs::write(&path, base + &fragment.text()).map_err(file("write", &path))?;
            }
            Step::Check => {
                let config = fs::read_to_string(&path).map_err(file("read", &path))?;
                let config = config::normalised(&config);
                let missing = fragment.not_taken(&config);
                let (needed, others): (Vec<_>, Vec<_>) = missing.iter().partition(|w| w.required);
                let names = |wanted: Vec<&Wanted>| wanted.iter().map(ToString::to_string).collect();
                if !needed.is_empty() {
                    let (folder, options) = (tree.path.clone(), names(needed));
                    return Err(BuildError::NotTaken { folder, options });
                }
                taken = Some(Taken { config, not_taken: names(others) });
            }
        }
    }
    Ok(taken.expect("the steps have a check among them"))
}

fn check_room(staging: &Staging) -> Result<(), BuildError> {
    let path = staging.path();
    let room = statvfs(path).map_err(|error| BuildError::File {
        op: "measure the room in",
        path: path.to_owned(),
        source: error.into(),
    })?;
    let free = room.blocks_available() * room.fragment_size();
    if free >= ROOM_BYTES {
        return Ok(());
    }
    Err(BuildError::Unavailable(Unavailable::new(
        format!(
            "{} GiB free in {}",
            ROOM_BYTES.div_ceil(1 << 30),
            path.parent().unwrap_or(path).display()
        ),
        format!("{:.1} GiB", free as f64 / f64::from(1 << 30)),
        "XDG_CACHE_HOME=FOLDER on a larger file system",
    )))
}

/// `CONFIG_CC_VERSION_TEXT="gcc (Debian 12.2.0-14) 12.2.0"`: the compiler in its own words.
fn compiler(config: &str) -> String {
    let text = config.lines().find_map(|line| line.strip_prefix("CONFIG_CC_VERSION_TEXT="));
    text.unwrap_or_default().trim_matches('"').to_owned()
}
