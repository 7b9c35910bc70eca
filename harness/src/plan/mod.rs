// SPDX-License-Identifier: Apache-2.0
//! From a profile to the list of cases it asks for. Pure: no host is looked at here.

mod case;

pub use case::{Case, CniKind, Mode, Place, Position, Road, Route};
