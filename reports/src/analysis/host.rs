// SPDX-License-Identifier: Apache-2.0
//! Whether runs may stand beside each other.

use record::Run;

use crate::analysis::number::{bytes, prose_list};

/// What to know before comparing the runs given; none for fewer than two.
pub fn warning(runs: &[Run]) -> Option<String> {
    let (first, rest) = runs.split_first()?;
    let mut differ: Vec<&str> = rest.iter().flat_map(|run| differences(first, run)).collect();
    differ.sort_unstable();
    differ.dedup();
    match (rest, differ.as_slice()) {
        ([], _) => None,
        (_, []) => Some(
            "These runs were made one after the other on hosts that look the same. Nothing here \
             compares them: times drift between runs, and only cases interleaved in one run support \
             a verdict."
                .to_owned(),
        ),
        (_, differ) => {
            let what: Vec<String> = differ.iter().map(|d| (*d).to_owned()).collect();
            Some(format!(
                "These runs were made on different hosts ({} differ). Nothing here compares them, \
                 and neither should you: read each run by itself.",
                prose_list(&what)
            ))
        }
    }
}

fn differences(a: &Run, b: &Run) -> Vec<&'static str> {
    let files = |run: &Run| -> Vec<String> {
        run.manifest.kernels.iter().map(|kernel| kernel.sha256.clone()).collect()
    };
    let guests = files(a) != files(b);
    let (a, b) = (&a.manifest.host, &b.manifest.host);
    let pairs = [
        ("kernel release", a.kernel_release != b.kernel_release),
        ("kernel build", a.kernel_version != b.kernel_version),
        ("machine type", a.machine != b.machine),
        ("processor", a.cpu_model != b.cpu_model),
        ("processors online", a.cpus != b.cpus),
        ("governor", a.governor != b.governor),
        ("memory", a.memory_bytes != b.memory_bytes),
        ("privilege", a.privilege != b.privilege),
        ("sysctls", a.sysctls != b.sysctls),
        ("kernel options", a.kernel_config != b.kernel_config),
        ("the labs’ own kernels", guests),
    ];
    pairs.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

/// The host in one line.
pub fn line(run: &Run) -> String {
    let host = &run.manifest.host;
    format!(
        "Linux {} {}, {} × {}, {}, load {:.2} at the start, as {}",
        host.kernel_release,
        host.machine,
        host.cpus,
        host.cpu_model,
        bytes(host.memory_bytes),
        host.load_average,
        host.privilege,
    )
}
