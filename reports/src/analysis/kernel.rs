// SPDX-License-Identifier: Apache-2.0
//! Which kernel a case ran on, in words.

use record::{CaseRecord, GuestKernel, Run};

use crate::analysis::number::{count, one_line, prose_list};

/// What cases on the machine's own kernel are labelled with.
pub const HOST: &str = "host";

/// Whether any case of the runs did not run on the host's kernel: then every case's name says which.
pub fn any_guest(runs: &[Run]) -> bool {
    runs.iter().flat_map(|run| &run.summary.cases).any(|case| case.kernel != HOST)
}

/// What the manifest says of a kernel; none for the host's own, and for one that a hand edited in.
pub fn guest<'a>(run: &'a Run, label: &str) -> Option<&'a GuestKernel> {
    run.manifest.kernels.iter().find(|kernel| kernel.label == label)
}

/// The kernels of a run's cases in the order the run had them: the host's, then the manifest's.
pub fn of_run(run: &Run) -> Vec<&str> {
    let mut labels: Vec<&str> = Vec::new();
    for case in &run.summary.cases {
        if !labels.contains(&case.kernel.as_str()) {
            labels.push(&case.kernel);
        }
    }
    let place = |label: &str| {
        let listed = run.manifest.kernels.iter().position(|kernel| kernel.label == label);
        (label != HOST, listed.unwrap_or(usize::MAX))
    };
    labels.sort_by_key(|label| place(label));
    labels
}

/// A kernel at the end of a phrase: `the host's kernel`, `kernel uml-7.2.13`.
pub fn on(label: &str) -> String {
    match label {
        HOST => "the host’s kernel".to_owned(),
        label => format!("kernel {}", one_line(label)),
    }
}

/// What a kernel is: `User-Mode Linux 7.2.13, a process`.
pub fn what(kernel: &GuestKernel) -> String {
    let release = one_line(&kernel.release);
    match (kernel.kind.as_str(), kernel.accelerator.as_str()) {
        ("uml", _) => format!("User-Mode Linux {release}, a process"),
        ("qemu", "tcg") => format!("Linux {release} in QEMU, on an emulated processor"),
        ("qemu", "kvm") => format!("Linux {release} in QEMU, under KVM"),
        (kind, accelerator) => {
            format!("Linux {release}, {} ({})", one_line(kind), one_line(accelerator))
        }
    }
}

/// Which kernels a run's cases ran on, as a sentence; empty for a run without cases.
pub fn sentence(run: &Run) -> String {
    let release = one_line(&run.manifest.host.kernel_release);
    let named = |label: &str| match (label, guest(run, label)) {
        (HOST, _) => format!("the host’s ({release})"),
        (label, Some(kernel)) => format!("{} ({})", one_line(label), what(kernel)),
        (label, None) => format!("{} (of which the manifest says nothing)", one_line(label)),
    };
    match of_run(run).as_slice() {
        [] => String::new(),
        [HOST] => format!("All cases ran on the host’s kernel, {release}."),
        [label] => {
            format!("All cases ran on kernel {}, not on the host’s, {release}.", named(label))
        }
        labels => {
            let names: Vec<String> = labels.iter().map(|label| named(label)).collect();
            format!(
                "Cases ran on {} kernels: {}. Times are compared within one, except in a section that says so.",
                count(labels.len() as u64),
                prose_list(&names)
            )
        }
    }
}

/// A case's name where cases of several runs or kernels stand in one table. An id says the kernel
/// where it is not the host's.
pub fn case_name(runs: &[Run], run: &Run, case: &CaseRecord) -> String {
    let prefix = if runs.len() > 1 { format!("{}: ", run.manifest.run_id) } else { String::new() };
    let hosts = if case.kernel == HOST && any_guest(runs) { " (host’s kernel)" } else { "" };
    format!("{prefix}{}{hosts}", case.id)
}
