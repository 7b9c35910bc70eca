// SPDX-License-Identifier: Apache-2.0
//! The order reports list proxy modes in.

/// Modes from the floor upwards; a mode this code does not know comes after them, by name.
pub const ORDER: [&str; 6] = ["none", "userspace", "iptables", "ipvs", "nftables", "ebpf"];

/// Sort key of a mode.
pub fn rank(mode: &str) -> (usize, &str) {
    let place = ORDER.iter().position(|known| *known == mode).unwrap_or(ORDER.len());
    (place, mode)
}

/// A mode in a sentence: `through iptables`, and for `none` what that means.
pub fn through(mode: &str) -> String {
    match mode {
        "none" => "straight to the pod's address (none)".to_owned(),
        mode => format!("through {mode}"),
    }
}
