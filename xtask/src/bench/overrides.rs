// SPDX-License-Identifier: Apache-2.0
//! Flags laid over the profile.

use std::path::PathBuf;

use harness::plan::{Profile, ProfileError};

use crate::cli::BenchArgs;

/// The profile that `args` ask for.
///
/// # Errors
/// The profile cannot be read.
pub(super) fn profile(args: &BenchArgs) -> Result<Profile, ProfileError> {
    let mut profile = if args.profile == "default" {
        Profile::embedded()?
    } else {
        Profile::read(&path(&args.profile))?
    };
    let matrix = &mut profile.matrix;
    replace(&mut matrix.mode, &args.mode);
    replace(&mut matrix.cni, &args.cni);
    replace(&mut matrix.route, &args.route);
    replace(&mut matrix.services, &args.services);
    replace(&mut matrix.position, &args.position);
    replace(&mut matrix.workload, &args.workload);
    profile.run.duration = args.duration.unwrap_or(profile.run.duration);
    profile.run.iterations = args.iterations.unwrap_or(profile.run.iterations);
    profile.run.engine = args.engine.unwrap_or(profile.run.engine);
    profile.seed = args.seed.unwrap_or(profile.seed);
    Ok(profile)
}

fn replace<T: Clone>(values: &mut Vec<T>, given: &[T]) {
    if !given.is_empty() {
        *values = given.to_vec();
    }
}

/// A bare name is a file in profiles/; anything with a slash or an ending is a path.
fn path(name: &str) -> PathBuf {
    if name.contains('/') || name.ends_with(".toml") {
        PathBuf::from(name)
    } else {
        crate::root::workspace().join("profiles").join(format!("{name}.toml"))
    }
}
