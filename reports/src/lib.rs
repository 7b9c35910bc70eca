// SPDX-License-Identifier: Apache-2.0
//! Reports: what a record says, drawn. Never touches a lab: an old run renders anywhere.
#![forbid(unsafe_code)]
