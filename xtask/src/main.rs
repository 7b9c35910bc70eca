// SPDX-License-Identifier: Apache-2.0
//! nic2pod on the command line.
fn main() {}
