// SPDX-License-Identifier: Apache-2.0
//! What is built into a guest's kernel, said where programs look for it.
//!
//! kube-proxy 1.20 takes ip_vs for absent unless `/proc/modules` or `/lib/modules/RELEASE/modules.builtin`
//! (Documentation/kbuild/kbuild.rst) names it; later ones try it out. A kernel that is one file has no such
//! folder, and the guest's root, which is the machine's, cannot be written.

/// For a shell that is root in a guest with `/proc`: writes the list, where a kernel that could load modules has
/// none, to a file system of the guest's own. In it are ip_vs, its schedulers and connection tracking, which are
/// called as the options that build them in. Without `/proc/modules` nothing would read it.
pub const NAME_BUILT_IN: &str = r"folder=/lib/modules/$(uname -r)
schedulers='RR\|WRR\|LC\|WLC\|FO\|OVF\|LBLC\|LBLCR\|DH\|SH\|MH\|SED\|NQ\|TWOS'
if [ -e /proc/modules ] && [ -e /proc/config.gz ] && [ -d /lib/modules ] && [ ! -e $folder ]; then
  mount -t tmpfs modules /lib/modules && mkdir $folder &&
  zcat /proc/config.gz >$folder/config &&
  sed -n 's,^CONFIG_\(IP_VS\|IP_VS_\('$schedulers'\)\|NF_CONNTRACK\)=y$,kernel/net/netfilter/\L\1.ko,p' \
    $folder/config >$folder/modules.builtin
fi
";

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Runs it with a root folder in place of the machine's, where `mount` does nothing.
    fn listed(root: &std::path::Path) -> Option<String> {
        let at_root = |text: &str| {
            let proc = root.join("proc").display().to_string();
            let lib = root.join("lib").display().to_string();
            text.replace("/proc/", &format!("{proc}/")).replace("/lib/", &format!("{lib}/"))
        };
        let script =
            format!("mount() {{ :; }}\nuname() {{ echo 7.2; }}\n{}", at_root(NAME_BUILT_IN));
        let status = Command::new("sh").args(["-c", &script]).status().unwrap();
        assert!(status.success(), "{status}");
        std::fs::read_to_string(root.join("lib/modules/7.2/modules.builtin")).ok()
    }

    #[test]
    fn modules_are_named_where_a_kernel_that_could_load_some_has_no_list() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["proc", "lib/modules"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let config = "CONFIG_IP_VS=y\nCONFIG_IP_VS_NFCT=y\nCONFIG_IP_VS_RR=y\nCONFIG_IP_VS_TAB_BITS=12\n\
                      # CONFIG_IP_VS_SH is not set\nCONFIG_NF_CONNTRACK=y\nCONFIG_NF_CONNTRACK_MARK=y\n";
        let plain = dir.path().join("proc/config");
        std::fs::write(&plain, config).unwrap();
        assert!(Command::new("gzip").arg(&plain).status().unwrap().success());
        assert_eq!(listed(dir.path()), None, "nothing could be loaded");
        std::fs::write(dir.path().join("proc/modules"), "").unwrap();
        let named = ["ip_vs", "ip_vs_rr", "nf_conntrack"];
        let expected = named.map(|name| format!("kernel/net/netfilter/{name}.ko\n")).concat();
        assert_eq!(listed(dir.path()), Some(expected));
        // One that is there is left alone.
        let list = dir.path().join("lib/modules/7.2/modules.builtin");
        std::fs::write(&list, "kernel/net/ipv4/udp.ko\n").unwrap();
        assert_eq!(listed(dir.path()).unwrap(), "kernel/net/ipv4/udp.ko\n");
    }
}
