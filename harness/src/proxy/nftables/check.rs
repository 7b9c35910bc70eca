// SPDX-License-Identifier: Apache-2.0
//! Whether this machine can run the mode: the tool, and each kernel feature the rules are made of.

use crate::Unavailable;
use crate::net::{Netns, Tool, ToolError, conntrack};

/// Oldest `nft` that kube-proxy works with.
const OLDEST: (u32, u32, u32) = (1, 0, 1);

/// Kernel option, and the commands that need it, in a table of their own.
const FEATURES: [(&str, &[&str]); 8] = [
    (
        "CONFIG_NF_TABLES_IPV4",
        &["add chain ip T C { type filter hook prerouting priority -110 ; }"],
    ),
    ("CONFIG_NFT_CT", &["add chain ip T C", "add rule ip T C ct state new accept"]),
    (
        "CONFIG_NFT_NAT",
        &[
            "add chain ip T C { type nat hook prerouting priority -100 ; }",
            "add rule ip T C meta l4proto tcp dnat to 10.0.0.1:80",
        ],
    ),
    (
        "CONFIG_NFT_MASQ",
        &[
            "add chain ip T C { type nat hook postrouting priority 100 ; }",
            "add rule ip T C masquerade fully-random",
        ],
    ),
    (
        "CONFIG_NFT_REJECT_IPV4",
        &[
            "add chain ip T C { type filter hook forward priority -110 ; }",
            "add rule ip T C reject",
        ],
    ),
    (
        "CONFIG_NFT_NUMGEN",
        &["add chain ip T C", "add rule ip T C numgen random mod 2 vmap { 0 : drop , 1 : accept }"],
    ),
    (
        "CONFIG_NFT_FIB_IPV4",
        &[
            "add chain ip T C { type filter hook prerouting priority -110 ; }",
            "add rule ip T C fib saddr type local accept",
        ],
    ),
    (
        "nf_tables' concatenated maps and sets that rules update",
        &[
            "add map ip T M { type ipv4_addr . inet_proto . inet_service : verdict ; }",
            "add set ip T S { type ipv4_addr ; flags dynamic,timeout ; timeout 10800s ; }",
            "add chain ip T C",
            "add rule ip T C ip daddr . meta l4proto . th dport vmap @M",
            "add rule ip T C update @S { ip saddr }",
            "add element ip T M { 10.0.0.1 . tcp . 80 comment \"a/b:c\" : drop }",
        ],
    ),
];

pub(super) fn check(scratch: &Netns) -> Result<(), Unavailable> {
    tool(scratch)?;
    // All at once; one by one only to say which is missing.
    if run(scratch, FEATURES.iter().flat_map(|(_, commands)| table(commands)).collect()).is_err() {
        let refusals: Vec<_> = FEATURES
            .iter()
            .filter_map(|(option, commands)| Some((option, run(scratch, table(commands)).err()?)))
            .collect();
        if let Some((_, first)) = refusals.first() {
            let options: Vec<_> = refusals.iter().map(|(option, _)| **option).collect();
            let need = format!("kernel with {}", options.join(", "));
            return Err(Unavailable::new(need, first.to_string(), REMEDY));
        }
    }
    conntrack::dump(scratch, conntrack::Filter::default())
        .map_err(|error| {
            Unavailable::new("kernel with CONFIG_NF_CT_NETLINK", error.to_string(), REMEDY)
        })
        .map(drop)
}

const REMEDY: &str = "a kernel with these options, 5.13 or later (distributions' have them)";

fn tool(scratch: &Netns) -> Result<(), Unavailable> {
    let need = format!("nft {}.{}.{} or later", OLDEST.0, OLDEST.1, OLDEST.2);
    let remedy = "apt-get install nftables";
    match Tool::new("nft").args(["--version"]).run_on(scratch) {
        Ok(banner) if version(&banner).is_some_and(|version| version >= OLDEST) => Ok(()),
        Ok(banner) => Err(Unavailable::new(need, banner.trim_end(), remedy)),
        Err(error) => Err(Unavailable::new(need, error.to_string(), remedy)),
    }
}

/// Out of `nftables v1.0.6 (Lester Gooch #5)`.
fn version(banner: &str) -> Option<(u32, u32, u32)> {
    let number = banner.split_whitespace().nth(1)?.strip_prefix('v')?;
    let mut parts = number.split('.').map(str::parse);
    let mut part = || parts.next()?.ok();
    Some((part()?, part()?, part().unwrap_or(0)))
}

/// The commands in a table that is gone at the end of the same transaction.
fn table(commands: &[&str]) -> Vec<String> {
    let mut lines = vec!["add table ip T".to_owned()];
    lines.extend(commands.iter().map(|&command| command.to_owned()));
    lines.push("delete table ip T".to_owned());
    lines
}

fn run(scratch: &Netns, mut lines: Vec<String>) -> Result<(), ToolError> {
    lines.push(String::new());
    let text = lines.join("\n").replace("ip T", "ip nic2pod-check");
    Tool::new("nft").args(["-f", "-"]).stdin(text).run_on(scratch).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(version("nftables v1.0.6 (Lester Gooch #5)\n"), Some((1, 0, 6)));
        assert_eq!(version("nftables v1.1 (Commodore Bullmoose)"), Some((1, 1, 0)));
        assert!(version("nftables v0.9.8 (E.D.S.)") < Some(OLDEST));
        assert!(version("nftables v1.0.10 (x)") > Some(OLDEST));
        assert_eq!(version("busybox"), None);
    }
}
