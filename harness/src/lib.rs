// SPDX-License-Identifier: Apache-2.0
//! The lab and what happens in it: a profile becomes a plan, a plan's cases are built, proved,
//! loaded and measured, and every case's figures go to the record.

pub mod capture;
pub mod cni;
pub mod lab;
pub mod net;
pub mod plan;
pub mod proxy;
mod unavailable;

pub use unavailable::Unavailable;
