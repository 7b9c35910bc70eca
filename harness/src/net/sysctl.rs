// SPDX-License-Identifier: Apache-2.0
//! A host's `/proc/sys/net`. The kernel resolves it for the calling thread's namespace
//! (`net/sysctl_net.c`, `net_ctl_header_lookup`), so it is read and written on the host's thread.

use std::path::{Path, PathBuf};

use super::{NetError, Netns, Pending};

impl Netns {
    /// Writes settings in order, `("net/ipv4/ip_forward", "1")`, and returns the keys that this
    /// kernel does not have. Slashes, as `sysctl(8)` takes them too: an interface's name may
    /// have a dot.
    ///
    /// # Errors
    /// The kernel refuses a value or the permission.
    pub fn write_sysctls<K: Into<String>, V: Into<String>>(
        &self,
        settings: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Vec<String>, NetError> {
        self.begin_write_sysctls(settings).wait()
    }

    /// Starts [`Netns::write_sysctls`], so that several hosts can be set at once.
    pub fn begin_write_sysctls<K: Into<String>, V: Into<String>>(
        &self,
        settings: impl IntoIterator<Item = (K, V)>,
    ) -> Pending<Result<Vec<String>, NetError>> {
        let settings: Vec<(String, String)> =
            settings.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        self.begin(move || async move { write(settings) })
    }

    /// A setting's value, `None` where this kernel does not have it.
    ///
    /// # Errors
    /// The kernel refuses the permission.
    pub fn sysctl(&self, key: impl Into<String>) -> Result<Option<String>, NetError> {
        let key = key.into();
        self.run(move || match std::fs::read_to_string(path(&key)) {
            Ok(text) => Ok(Some(text.trim_end().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(NetError::os("read sysctl", key)(error)),
        })
    }
}

fn write(settings: Vec<(String, String)>) -> Result<Vec<String>, NetError> {
    let mut absent = Vec::new();
    for (key, value) in settings {
        match std::fs::write(path(&key), &value) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => absent.push(key),
            Err(error) => {
                return Err(NetError::os("write sysctl", format!("{key}={value}"))(error));
            }
        }
    }
    Ok(absent)
}

fn path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key)
}
