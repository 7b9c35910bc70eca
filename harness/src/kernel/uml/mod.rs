// SPDX-License-Identifier: Apache-2.0
//! User-Mode Linux: a kernel that runs as a process of an ordinary user.

pub mod build;
