// SPDX-License-Identifier: Apache-2.0
//! Kernel settings of a node that a proxy mode needs, put back when the mode goes.

use std::fs;

use crate::net::{NetError, Netns};

/// What settings were before they were changed, latest first.
#[derive(Debug, Default)]
pub(crate) struct Sysctls {
    before: Vec<(String, String)>,
}

impl Sysctls {
    /// Sets `settings`, pairs of a path below `/proc/sys` and a value, on a node.
    ///
    /// # Errors
    /// The kernel has no such setting or refuses the value; those set before it are put back.
    pub(crate) fn write(netns: &Netns, settings: &[(&str, &str)]) -> Result<Self, NetError> {
        let mut changed = Self::default();
        for (name, value) in settings {
            match exchange(netns, name, value) {
                Ok(before) => changed.before.insert(0, ((*name).to_owned(), before)),
                Err(error) => {
                    changed.put_back(netns)?;
                    return Err(error);
                }
            }
        }
        Ok(changed)
    }

    /// Puts back what was there before.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn put_back(self, netns: &Netns) -> Result<(), NetError> {
        self.before
            .into_iter()
            .try_for_each(|(name, value)| exchange(netns, &name, &value).map(drop))
    }
}

/// `/proc/sys/net` shows the namespace of the thread that opens it.
fn exchange(netns: &Netns, name: &str, value: &str) -> Result<String, NetError> {
    let (path, value) = (format!("/proc/sys/{name}"), value.to_owned());
    netns.run(move || {
        let before = fs::read_to_string(&path).map_err(NetError::os("read", path.clone()))?;
        if before.trim_end() != value {
            fs::write(&path, &value).map_err(NetError::os("write", path))?;
        }
        Ok(before.trim_end().to_owned())
    })
}
