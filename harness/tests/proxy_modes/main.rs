// SPDX-License-Identifier: Apache-2.0
//! Proxy modes on a real kernel. Needs root (or a user namespace). A mode that the kernel cannot
//! run is skipped, with its reason on standard error.

#![expect(
    clippy::print_stderr,
    reason = "skips, evidence and times are for whoever runs the tests"
)]

mod bench;
mod conformance;
#[cfg(feature = "bpf")]
mod ebpf;
mod kube_proxy;
mod lab;
mod relay;
mod scale;
mod schedulers;
