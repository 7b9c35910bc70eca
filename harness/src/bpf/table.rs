// SPDX-License-Identifier: Apache-2.0
//! A map of a loaded object, read and written as bytes.

use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapHandle};

use super::{BpfError, Loaded};

/// Entries read with one system call.
const BATCH: u32 = 4096;

/// A map. Lives as long as any handle on it, or a program that uses it.
#[derive(Debug)]
pub struct Table {
    name: &'static str,
    map: MapHandle,
}

impl Table {
    /// The object's map of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn of(loaded: &Loaded, name: &'static str) -> Result<Self, BpfError> {
        Ok(Self { name, map: loaded.map(name)? })
    }

    /// Another handle on the map.
    ///
    /// # Errors
    /// No descriptor is to be had.
    pub fn share(&self) -> Result<Self, BpfError> {
        let map = MapHandle::try_from(&self.map).map_err(BpfError::libbpf("share", self.name))?;
        Ok(Self { name: self.name, map })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Writes all entries, new ones and old, with one system call.
    ///
    /// # Errors
    /// There is no room, or keys or values are not as long as the map's.
    pub fn put_all(
        &self,
        entries: impl IntoIterator<Item = (impl AsRef<[u8]>, impl AsRef<[u8]>)>,
    ) -> Result<(), BpfError> {
        let (mut keys, mut values, mut count) = (Vec::new(), Vec::new(), 0);
        for (key, value) in entries {
            keys.extend_from_slice(key.as_ref());
            values.extend_from_slice(value.as_ref());
            count += 1;
        }
        if count == 0 {
            return Ok(());
        }
        self.map
            .update_batch(&keys, &values, count, ANY, ANY)
            .map_err(BpfError::libbpf("write", self.name))
    }

    /// The value of a key.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BpfError> {
        self.map.lookup(key, ANY).map_err(BpfError::libbpf("read", self.name))
    }

    /// Removes an entry; one that is gone already is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove(&self, key: &[u8]) -> Result<(), BpfError> {
        match self.map.delete(key) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(BpfError::libbpf("remove from", self.name)(error))
            }
            _ => Ok(()),
        }
    }

    /// All entries of a hash; those that come or go meanwhile may be among them or not.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn entries(&self) -> Result<impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_, BpfError> {
        self.map.lookup_batch(BATCH, ANY, ANY).map_err(BpfError::libbpf("read", self.name))
    }
}

const ANY: MapFlags = MapFlags::ANY;
