// SPDX-License-Identifier: Apache-2.0
//! What the process may do, and its way out of the host's network.

use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use crate::Unavailable;

/// Bits of `CapEff` in `/proc/self/status` (`linux/capability.h`).
const CAP_NET_ADMIN: u64 = 1 << 12;
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// With what right the process makes namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// The machine's capabilities `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`.
    Root,
    /// A user namespace of its own, in which it is root and outside of which it is nobody.
    UserNamespace,
}

impl std::fmt::Display for Privilege {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::UserNamespace => "user namespace",
        })
    }
}

/// Leaves the host's network namespace, so that nothing done later can touch the host's network
/// even by mistake: with the machine's capabilities directly, without them through a user
/// namespace (and a mount namespace with it) in which the caller is root.
///
/// To be called first thing in `main`: threads made before would stay behind in the host's network.
///
/// # Errors
/// The machine allows neither; the remedy names the setting.
///
/// # Panics
/// The process has more than one thread.
pub fn enter_private_namespaces() -> Result<Privilege, Unavailable> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    assert_eq!(threads, 1, "called before the process has a second thread");
    if effective_capabilities() & (CAP_NET_ADMIN | CAP_SYS_ADMIN) == CAP_NET_ADMIN | CAP_SYS_ADMIN {
        return match unshare(CloneFlags::CLONE_NEWNET) {
            Ok(()) => Ok(Privilege::Root),
            Err(errno) => Err(refused(errno, &Limits::read())),
        };
    }
    let (uid, gid) = (geteuid(), getegid());
    let flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    unshare(flags).map_err(|errno| refused(errno, &Limits::read()))?;
    // Without CAP_SETGID in the parent namespace, a group may be mapped only once setgroups(2) is
    // given up (user_namespaces(7)).
    let maps = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ];
    for (file, text) in maps {
        let path = Path::new("/proc/self").join(file);
        std::fs::write(&path, text).map_err(|error| map_refused(&path, &error))?;
    }
    Ok(Privilege::UserNamespace)
}

fn effective_capabilities() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}

/// The settings by which a machine refuses namespaces; `None` where the kernel has no such setting.
#[derive(Debug, Default)]
struct Limits {
    max_user_namespaces: Option<String>,
    max_net_namespaces: Option<String>,
    /// Debian's and Arch's patch.
    unprivileged_userns_clone: Option<String>,
    /// Ubuntu since 23.10: the call succeeds and the capabilities are without effect.
    apparmor_restrict: Option<String>,
}

impl Limits {
    fn read() -> Self {
        let setting = |path: &str| {
            let text = std::fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?;
            Some(text.trim().to_owned())
        };
        Self {
            max_user_namespaces: setting("user/max_user_namespaces"),
            max_net_namespaces: setting("user/max_net_namespaces"),
            unprivileged_userns_clone: setting("kernel/unprivileged_userns_clone"),
            apparmor_restrict: setting("kernel/apparmor_restrict_unprivileged_userns"),
        }
    }
}

const NEED: &str = "a network namespace of its own";

/// Names the setting behind a refusal of `unshare(2)` or of the maps.
fn refused(errno: Errno, limits: &Limits) -> Unavailable {
    let off = |setting: &Option<String>| setting.as_deref() == Some("0");
    let (found, remedy) = if off(&limits.max_net_namespaces) {
        ("user.max_net_namespaces=0", "sysctl -w user.max_net_namespaces=1000")
    } else if off(&limits.max_user_namespaces) {
        ("user.max_user_namespaces=0", "run as root, or sysctl -w user.max_user_namespaces=1000")
    } else if off(&limits.unprivileged_userns_clone) {
        (
            "kernel.unprivileged_userns_clone=0",
            "run as root, or sysctl -w kernel.unprivileged_userns_clone=1",
        )
    } else if limits.apparmor_restrict.as_deref() == Some("1") {
        (
            "kernel.apparmor_restrict_unprivileged_userns=1",
            "run as root, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        )
    } else {
        let remedy = match errno {
            Errno::EPERM => "run as root; in a container, with --privileged",
            Errno::ENOSPC => "end other namespaces, or raise the sysctls user.max_*_namespaces",
            _ => "a kernel with CONFIG_NET_NS and CONFIG_USER_NS",
        };
        return Unavailable::new(NEED, format!("unshare(2): {}", errno.desc()), remedy);
    };
    Unavailable::new(NEED, found, remedy)
}

fn map_refused(path: &Path, error: &io::Error) -> Unavailable {
    let errno = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
    let mut unavailable = refused(errno, &Limits::read());
    unavailable.found = format!("{} ({}: {error})", unavailable.found, path.display());
    unavailable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    #[test]
    fn a_refusal_names_the_setting_behind_it() {
        let ubuntu = Limits { apparmor_restrict: set("1"), ..Limits::default() };
        let debian = Limits { unprivileged_userns_clone: set("0"), ..Limits::default() };
        let none = Limits { max_user_namespaces: set("0"), ..Limits::default() };
        for (limits, name) in [
            (ubuntu, "kernel.apparmor_restrict_unprivileged_userns=1"),
            (debian, "kernel.unprivileged_userns_clone=0"),
            (none, "user.max_user_namespaces=0"),
        ] {
            let refusal = refused(Errno::EPERM, &limits);
            assert_eq!(refusal.found, name);
            let setting = name.split('=').next().unwrap();
            assert!(refusal.remedy.contains(setting), "{refusal}");
        }
    }

    #[test]
    fn a_refusal_without_a_known_setting_says_what_the_kernel_said() {
        let refusal = refused(Errno::EPERM, &Limits::default());
        assert_eq!(refusal.found, "unshare(2): Operation not permitted");
        assert!(refusal.remedy.contains("--privileged"), "{refusal}");
    }
}
