// SPDX-License-Identifier: Apache-2.0
//! Flags laid over the profile.

use harness::plan::{Profile, ProfileError};

use crate::cli::BenchArgs;

/// The profile that `args` ask for, else the one named `default`.
///
/// # Errors
/// The profile cannot be read.
pub(crate) fn profile(args: &BenchArgs, default: &str) -> Result<Profile, ProfileError> {
    let mut profile = crate::profile::read(args.profile.as_deref().unwrap_or(default))?;
    let matrix = &mut profile.matrix;
    replace(&mut matrix.kernel, &args.kernel);
    replace(&mut matrix.mode, &args.mode);
    replace(&mut matrix.cni, &args.cni);
    replace(&mut matrix.route, &args.route);
    replace(&mut matrix.services, &args.services);
    replace(&mut matrix.position, &args.position);
    replace(&mut matrix.workload, &args.workload);
    profile.run.duration = args.duration.unwrap_or(profile.run.duration);
    profile.run.iterations = args.iterations.unwrap_or(profile.run.iterations);
    profile.run.engine = args.engine.unwrap_or(profile.run.engine);
    profile.run.trace_slowest = args.trace_slowest.unwrap_or(profile.run.trace_slowest);
    profile.seed = args.seed.unwrap_or(profile.seed);
    Ok(profile)
}

fn replace<T: Clone>(values: &mut Vec<T>, given: &[T]) {
    if !given.is_empty() {
        *values = given.to_vec();
    }
}
