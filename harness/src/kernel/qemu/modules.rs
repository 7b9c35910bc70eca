// SPDX-License-Identifier: Apache-2.0
//! Which module needs which: `modules.dep` and `modules.builtin` of a release (depmod(8),
//! modules.dep(5), Documentation/kbuild/kbuild.rst).

use std::collections::{BTreeMap, BTreeSet};

/// A release's modules by name. Names have `_` where files may have `-`: to the kernel they are
/// the same (modprobe(8)).
#[derive(Clone, Debug, Default)]
pub(super) struct Modules {
    loadable: BTreeMap<String, Module>,
    builtin: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Module {
    /// Below the release's folder: `kernel/drivers/net/veth.ko.xz`.
    path: String,
    /// Names of all modules it needs, those that others of them need last.
    needs: Vec<String>,
}

impl Modules {
    /// From the two files' texts. Lines that are none of theirs are passed over.
    pub(super) fn parse(dep: &str, builtin: &str) -> Self {
        let loadable = dep
            .lines()
            .filter_map(|line| line.split_once(':'))
            .filter_map(|(path, needs)| {
                let needs = needs.split_whitespace().filter_map(name).collect();
                Some((name(path)?, Module { path: path.to_owned(), needs }))
            })
            .collect();
        Self { loadable, builtin: builtin.lines().filter_map(name).collect() }
    }

    /// Whether the kernel has it: built in, or as a file.
    pub(super) fn have(&self, module: &str) -> bool {
        self.loadable.contains_key(module) || self.builtin.contains(module)
    }

    /// Names of all that are files.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.loadable.keys().map(String::as_str)
    }

    /// Files of the wanted modules that are files and of all that these need, in an order in which
    /// they can be loaded. Modules that the release lacks add nothing.
    pub(super) fn closure<'a>(&self, wanted: impl IntoIterator<Item = &'a str>) -> Vec<&str> {
        let mut order = Vec::new();
        let mut taken = BTreeSet::new();
        for module in wanted {
            let Some(module) = self.loadable.get(module) else { continue };
            // The last of a line needs none of the others: insmod's order is the line's reverse.
            let needs = module.needs.iter().rev().filter_map(|need| self.loadable.get(need));
            for module in needs.chain([module]) {
                if taken.insert(&module.path) {
                    order.push(module.path.as_str());
                }
            }
        }
        order
    }
}

/// A module's name from its file's: `kernel/net/ipv4/ip_gre.ko.zst` is `ip_gre`.
fn name(path: &str) -> Option<String> {
    let file = path.trim().rsplit('/').next()?;
    let (stem, _) = file.split_once(".ko")?;
    (!stem.is_empty()).then(|| stem.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "\
kernel/net/netfilter/nf_conntrack.ko: kernel/net/ipv6/netfilter/nf_defrag_ipv6.ko kernel/net/ipv4/netfilter/nf_defrag_ipv4.ko kernel/lib/libcrc32c.ko
kernel/net/ipv6/netfilter/nf_defrag_ipv6.ko:
kernel/net/ipv4/netfilter/nf_defrag_ipv4.ko:
kernel/lib/libcrc32c.ko:
kernel/net/netfilter/nf_nat.ko: kernel/net/netfilter/nf_conntrack.ko kernel/net/ipv6/netfilter/nf_defrag_ipv6.ko kernel/net/ipv4/netfilter/nf_defrag_ipv4.ko kernel/lib/libcrc32c.ko
kernel/net/netfilter/xt_nat.ko.xz: kernel/net/netfilter/nf_nat.ko
kernel/net/ipv4/act-police.ko.zst:
";

    fn modules() -> Modules {
        Modules::parse(DEP, "kernel/net/packet/af_packet.ko\nkernel/crypto/crc32c-generic.ko\n")
    }

    #[test]
    fn what_a_module_needs_comes_before_it_and_once() {
        let modules = modules();
        let order = modules.closure(["nf_nat", "nf_conntrack"]);
        let at = |path: &str| order.iter().position(|p| p.ends_with(path)).unwrap();
        assert_eq!(order.len(), 5);
        assert!(at("libcrc32c.ko") < at("nf_conntrack.ko"));
        assert!(at("nf_defrag_ipv6.ko") < at("nf_conntrack.ko"));
        assert!(at("nf_conntrack.ko") < at("nf_nat.ko"));
    }

    #[test]
    fn dashes_and_compression_are_not_part_of_a_name() {
        let modules = modules();
        for name in ["act_police", "xt_nat", "crc32c_generic", "af_packet"] {
            assert!(modules.have(name), "{name}");
        }
        assert_eq!(modules.closure(["act_police"]), ["kernel/net/ipv4/act-police.ko.zst"]);
    }

    #[test]
    fn what_is_built_in_or_absent_adds_no_file() {
        let modules = modules();
        assert!(!modules.have("ip_vs"));
        assert!(modules.closure(["af_packet", "ip_vs"]).is_empty());
    }

    #[test]
    fn lines_of_no_module_are_passed_over() {
        let odd = Modules::parse("no colon\n: x.ko\nREADME: y\n.ko:\n", "\n/\nkernel/\n");
        assert!(odd.loadable.is_empty() && odd.builtin.is_empty());
    }
}
