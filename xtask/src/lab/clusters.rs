// SPDX-License-Identifier: Apache-2.0
//! `lab up`, `lab ls` and `lab down`: kind clusters that outlive a run.

use std::path::Path;

#[cfg(feature = "kind")]
use anyhow::Context;
use anyhow::Result;

use crate::cli::LabUpArgs;
use crate::exit::Exit;
#[cfg(not(feature = "kind"))]
use crate::feature;

/// Brings a cluster up and leaves it.
#[cfg(feature = "kind")]
pub(crate) fn up(args: &LabUpArgs) -> Result<Exit> {
    use harness::Cancel;
    use harness::lab::kind::{KindBeds, Supplies};
    use harness::plan::Profile;

    use crate::bench::{clusters, overrides};
    use crate::cli::KindArgs;

    let mut profile = Profile::embedded()?;
    profile.lab.nodes = args.nodes;
    profile.matrix.cni = vec![args.cni.into()];
    overrides::cni_files(&mut profile, &args.cni_files);
    let supplies = Supplies::gather(&profile)?;
    let agents = crate::agents::image(true, false)?;
    clusters::as_root(false)?;
    let flags = KindArgs {
        kind_bin: args.kind_bin.clone(),
        node_image: args.node_image.clone(),
        keep: true,
        ..KindArgs::default()
    };
    let options =
        clusters::options(&flags, &format!("up-{:x}", std::process::id()), agents, supplies);
    let lab = KindBeds::new(&profile, &crate::kernels::program()?, false, options)?;
    let cancel = Cancel::default();
    crate::bench::stop_on_signal(cancel.clone(), "taking the cluster down")?;
    let name = lab.prepare(args.mode, args.cni, &cancel)?;
    let errors = lab.down();
    anyhow::ensure!(errors.is_empty(), "{}", errors.join("; "));
    println!("{name}");
    Ok(Exit::Ok)
}

/// Writes the agents' image to a file.
#[cfg(feature = "kind")]
pub(crate) fn image(file: &Path, probes: bool) -> Result<Exit> {
    let image = crate::agents::image(true, probes)?;
    std::fs::write(file, image.archive())
        .with_context(|| format!("failed to write {}", file.display()))?;
    println!("{}", image.reference());
    Ok(Exit::Ok)
}

/// Lists clusters.
#[cfg(feature = "kind")]
pub(crate) fn ls() -> Result<Exit> {
    use harness::docker::{Engine, kind};
    use harness::lab::kind::Kept;

    let engine = Engine::connect()?;
    for name in kind::list(&engine)? {
        let Some(cluster) = kind::look(&engine, &name)? else {
            println!("{name}  has no control plane: it is being made or removed, or was in part");
            continue;
        };
        let running = cluster.nodes.iter().filter(|node| node.running).count();
        let kept = cluster.control_plane().pid.map(Kept::read).transpose()?.flatten();
        let what = kept.map_or_else(
            || "not kept: a run has it, or left it when it was killed".to_owned(),
            |kept| format!("{}+{}", kept.mode, kept.cni),
        );
        println!("{name}  {running} of {} nodes run  {what}", cluster.nodes.len());
    }
    Ok(Exit::Ok)
}

/// Takes clusters down, those that are named or all.
#[cfg(feature = "kind")]
pub(crate) fn down(names: &[String]) -> Result<Exit> {
    use harness::docker::{Engine, kind};

    let engine = Engine::connect()?;
    let there = kind::list(&engine)?;
    if let Some(unknown) = names.iter().find(|name| !there.contains(name)) {
        anyhow::bail!("failed to take down {unknown}: no such cluster of nic2pod's; see `lab ls`");
    }
    let gone = if names.is_empty() { &there[..] } else { names };
    for name in gone {
        kind::delete(&engine, name)?;
        println!("removed {name}");
    }
    if gone.is_empty() {
        println!("nothing to remove");
    }
    Ok(Exit::Ok)
}

/// What this program was built without is built, and does the work.
#[cfg(not(feature = "kind"))]
fn elsewhere() -> Result<Exit> {
    Ok(feature::kind(true)?.unwrap_or(Exit::Failed))
}

#[cfg(not(feature = "kind"))]
pub(crate) fn up(_: &LabUpArgs) -> Result<Exit> {
    elsewhere()
}

#[cfg(not(feature = "kind"))]
pub(crate) fn image(_: &Path, _: bool) -> Result<Exit> {
    elsewhere()
}

#[cfg(not(feature = "kind"))]
pub(crate) fn ls() -> Result<Exit> {
    elsewhere()
}

#[cfg(not(feature = "kind"))]
pub(crate) fn down(_: &[String]) -> Result<Exit> {
    elsewhere()
}
