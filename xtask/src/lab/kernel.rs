// SPDX-License-Identifier: Apache-2.0
//! `lab kernel`: User-Mode Linux kernels for labs, built, listed and chosen.

mod progress;

use anyhow::Result;
use harness::Cancel;
use harness::kernel::store::{Source, Store, StoredKernel};
use harness::kernel::uml::build::{self, Request, TOOLS};
use jiff::Zoned;

use self::progress::Progress;
use crate::cli::{KernelBuildArgs, KernelCommand};
use crate::exit::Exit;
use crate::packages::{self, Program};

/// Runs the command.
pub(crate) fn kernel(command: &KernelCommand) -> Result<Exit> {
    let store = Store::open()?;
    match command {
        KernelCommand::Build(args) => build(&store, args),
        KernelCommand::Ls => list(&store),
        KernelCommand::Use { kernel } => {
            let kernel = store.choose(kernel)?;
            println!("{} (Linux {}) is in use", kernel.name, kernel.version);
            Ok(Exit::Ok)
        }
    }
}

fn build(store: &Store, args: &KernelBuildArgs) -> Result<Exit> {
    packages::supply(&programs(args.source.is_none()), args.yes)?;
    let request = Request {
        source: args.source.clone(),
        config: args.config.clone(),
        now: Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
    };
    let kernel = build_one(store, &request)?;
    println!("{}", kernel.path.display());
    Ok(Exit::Ok)
}

/// Builds a kernel, showing how it goes, and makes it the one in use where none is.
pub(crate) fn build_one(store: &Store, request: &Request) -> Result<StoredKernel> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let minutes = build::expected(processors as u32).as_secs().div_ceil(60);
    let of_processors = if processors == 1 { "processor" } else { "processors" };
    eprintln!("building a kernel: about {minutes} minutes on {processors} {of_processors}");
    let cancel = Cancel::default();
    crate::bench::stop_on_signal(cancel.clone(), "ending the build")?;
    let mut progress = Progress::new();
    let built = build::build(store, request, &cancel, &mut |doing| progress.tell(doing));
    progress.end();
    let built = built?;
    for option in &built.facts.not_taken {
        eprintln!("note: this source did not take {option}; the kernel does without it");
    }
    let kernel = built.kernel;
    eprintln!("built {} in {} s", kernel.name, built.facts.seconds);
    match store.current()? {
        None => {
            store.choose(&kernel.name)?;
            eprintln!("{} is in use", kernel.name);
        }
        Some(current) if current.name != kernel.name => {
            eprintln!(
                "{} is in use; to change that: cargo xtask lab kernel use {}",
                current.name, kernel.name
            );
        }
        Some(_) => {}
    }
    Ok(kernel)
}

/// What building needs, as packages to install.
fn programs(fetching: bool) -> Vec<Program> {
    TOOLS
        .iter()
        .filter(|tool| fetching || !tool.fetching)
        .map(|tool| Program {
            name: tool.name,
            package: tool.package,
            needed_for: "lab kernel build",
        })
        .collect()
}

fn list(store: &Store) -> Result<Exit> {
    let kernels = store.list()?;
    let current = match store.current() {
        Ok(current) => current,
        Err(error) => {
            eprintln!("warning: the kernel in use is gone: {error}");
            None
        }
    };
    for kernel in &kernels {
        let facts = store.facts(&kernel.name)?;
        let from = match facts.source {
            Source::Package { name, version, .. } => format!("{name} {version}"),
            Source::Folder { path, revision: None } => path,
            Source::Folder { path, revision: Some(commit) } => format!("{path} at {commit}"),
        };
        let used = current.as_ref().is_some_and(|current| current.name == kernel.name);
        let mark = if used { "*" } else { " " };
        println!("{mark} {:28} {}  {from}", kernel.name, facts.built_at);
        println!("  {:28} {}", "", kernel.path.display());
    }
    if let Some(outside) = current.filter(|c| kernels.iter().all(|k| k.name != c.name)) {
        println!("* {}", outside.name);
        println!("  {:28} Linux {}, not built here", "", outside.version);
    }
    for error in store.malformed()? {
        eprintln!("warning: {error}");
    }
    if kernels.is_empty() {
        println!("no kernel is built in {}", store.folder().display());
        println!("try: cargo xtask lab kernel build");
    }
    Ok(Exit::Ok)
}
