// SPDX-License-Identifier: Apache-2.0
//! Flags laid over the profile.

use anyhow::Result;
use harness::plan::Profile;

use crate::cli::{BenchArgs, CniArgs};

/// The profile that `args` ask for, else the one named `default`.
///
/// # Errors
/// The profile, or a file that it or a flag names, cannot be read.
pub(crate) fn profile(args: &BenchArgs, default: &str) -> Result<Profile> {
    let mut profile = crate::profile::read(args.profile.as_deref().unwrap_or(default))?;
    let matrix = &mut profile.matrix;
    replace(&mut matrix.kernel, &args.kernel);
    replace(&mut matrix.mode, &args.mode);
    replace(&mut matrix.ip, &args.ip);
    replace(&mut matrix.cni, &args.cni);
    replace(&mut matrix.route, &args.route);
    replace(&mut matrix.services, &args.services);
    replace(&mut matrix.position, &args.position);
    replace(&mut matrix.workload, &args.workload);
    profile.run.duration = args.duration.unwrap_or(profile.run.duration);
    profile.run.iterations = args.iterations.unwrap_or(profile.run.iterations);
    profile.run.engine = args.engine.unwrap_or(profile.run.engine);
    profile.run.trace_slowest = args.trace_slowest.unwrap_or(profile.run.trace_slowest);
    args.between.lay_over(&mut profile);
    args.proxy.lay_over(&mut profile);
    profile.seed = args.seed.unwrap_or(profile.seed);
    cni_files(&mut profile, &args.cluster.kind.cni_files);
    profile.read_conflists()?;
    Ok(profile)
}

/// Names the files of CNIs.
pub(crate) fn cni_files(profile: &mut Profile, args: &CniArgs) {
    for (cni, file) in &args.manifests {
        let files = profile.lab.cni.entry(*cni).or_default();
        // A digest is that of the profile's own file.
        files.sha256 = files.sha256.take().filter(|_| files.manifest.as_ref() == Some(file));
        files.manifest = Some(file.clone());
    }
    for (cni, file) in &args.images {
        profile.lab.cni.entry(*cni).or_default().images.push(file.clone());
    }
}

fn replace<T: Clone>(values: &mut Vec<T>, given: &[T]) {
    if !given.is_empty() {
        *values = given.to_vec();
    }
}
