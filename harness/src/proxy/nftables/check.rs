// SPDX-License-Identifier: Apache-2.0
//! Whether this machine can run the mode: the tool, and each kernel feature the rules are made of.

use crate::Unavailable;
use crate::net::{Netns, Tool, ToolError, conntrack};
use crate::plan::IpFamily;

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
    features(scratch, IpFamily::Ipv4)?;
    conntrack::dump(scratch, conntrack::Filter::default())
        .map_err(|error| {
            Unavailable::new("kernel with CONFIG_NF_CT_NETLINK", error.to_string(), REMEDY)
        })
        .map(drop)
}

/// Whether the kernel has the features for addresses of a family.
pub(super) fn features(scratch: &Netns, family: IpFamily) -> Result<(), Unavailable> {
    let of = |commands: &[&str]| table(commands).iter().map(|line| told(line, family)).collect();
    let try_out = |lines: Vec<String>| run(scratch, lines);
    // All at once; one by one only to say which is missing.
    if try_out(FEATURES.iter().flat_map(|(_, commands)| -> Vec<_> { of(commands) }).collect())
        .is_ok()
    {
        return Ok(());
    }
    let refusals: Vec<_> = FEATURES
        .iter()
        .filter_map(|(option, commands)| Some((told(option, family), try_out(of(commands)).err()?)))
        .collect();
    let Some((_, first)) = refusals.first() else { return Ok(()) };
    let options: Vec<_> = refusals.iter().map(|(option, _)| &**option).collect();
    let need = format!("kernel with {}", options.join(", "));
    Err(Unavailable::new(need, first.to_string(), REMEDY))
}

/// A command or an option as it is for a family.
fn told(text: &str, family: IpFamily) -> String {
    if family == IpFamily::Ipv4 {
        return text.to_owned();
    }
    [("ip T", "ip6 T"), ("ip daddr", "ip6 daddr"), ("ip saddr", "ip6 saddr")]
        .into_iter()
        .chain([
            ("ipv4_addr", "ipv6_addr"),
            ("10.0.0.1:80", "[fd00::1]:80"),
            ("10.0.0.1", "fd00::1"),
        ])
        .chain([("_IPV4", "_IPV6")])
        .fold(text.to_owned(), |text, (four, six)| text.replace(four, six))
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
    let text =
        lines.join("\n").replace("ip T", "ip nic2pod-check").replace("ip6 T", "ip6 nic2pod-check");
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
