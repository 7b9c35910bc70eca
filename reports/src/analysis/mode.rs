// SPDX-License-Identifier: Apache-2.0
//! The order reports list proxy modes in.

/// Modes from the floor upwards; a mode this code does not know comes after them, by name.
pub const ORDER: [&str; 6] = ["none", "userspace", "iptables", "ipvs", "nftables", "ebpf"];

/// Sort key of a mode: one whose rules another program wrote (`iptables.kube-proxy`) stands behind our own
/// of that name.
pub fn rank(mode: &str) -> (usize, &str) {
    let place = ORDER.iter().position(|known| *known == family(mode)).unwrap_or(ORDER.len());
    (place, mode)
}

/// The mode itself, whoever wrote its rules.
pub fn family(mode: &str) -> &str {
    mode.split_once('.').map_or(mode, |(family, _)| family)
}

/// A mode in a sentence: `through iptables`, and for `none` what that means.
pub fn through(mode: &str) -> String {
    match mode {
        "none" => "straight to the pod's address (none)".to_owned(),
        mode => format!("through {mode}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_another_program_stand_behind_our_own_of_that_mode() {
        let mut modes = ["odd", "ipvs", "iptables.kube-proxy", "none", "iptables"];
        modes.sort_by_key(|mode| rank(mode));
        assert_eq!(modes, ["none", "iptables", "iptables.kube-proxy", "ipvs", "odd"]);
    }
}
