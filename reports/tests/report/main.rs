// SPDX-License-Identifier: Apache-2.0
//! Reports of hand-made records, read back.

mod escaping;
mod page;
mod support;
mod tags;
mod text;
