// SPDX-License-Identifier: Apache-2.0
//! Reports of hand-made records, read back.

mod curves;
mod escaping;
mod fit;
mod history;
mod judge;
mod kernels;
mod labs;
mod page;
mod stages;
mod support;
mod tags;
mod text;
mod trace;
mod walks;
