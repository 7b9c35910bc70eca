// SPDX-License-Identifier: Apache-2.0
//! An object file with its programs and maps, opened and loaded by libbpf.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use libbpf_rs::{MapCore, MapHandle, Object, ObjectBuilder, OpenObject};

use crate::Unavailable;

/// Why programs cannot be loaded, linked or asked.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    /// The machine lacks something.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The kernel or libbpf refused.
    #[error("failed to {op} {subject}")]
    Refused {
        /// What was tried.
        op: &'static str,
        /// On what.
        subject: String,
        /// What came back.
        source: io::Error,
    },
    /// The object has no program or map of that name: source and object disagree.
    #[error("failed to find {0} in a BPF object")]
    NoSuch(String),
}

impl BpfError {
    pub(super) fn refused(
        op: &'static str,
        subject: impl Into<String>,
    ) -> impl FnOnce(io::Error) -> Self {
        let subject = subject.into();
        move |source| Self::Refused { op, subject, source }
    }

    pub(crate) fn libbpf(
        op: &'static str,
        subject: &str,
    ) -> impl FnOnce(libbpf_rs::Error) -> Self + use<> {
        let subject = subject.to_owned();
        move |error| {
            // The kind keeps what the kernel said (EPERM, EINVAL); the text has the whole chain.
            let source = io::Error::new(error.kind().into_io(), format!("{error:#}"));
            Self::Refused { op, subject, source }
        }
    }
}

impl BpfError {
    /// Whether the kernel refused programs because it interprets them: these call kernel functions,
    /// which takes a compiler for the processor (`kernel/bpf/verifier.c`, `add_kfunc_call()`).
    pub(crate) fn lacks_compiler(&self) -> bool {
        // libbpf-rs keeps the number in the text only, as the standard library writes it there.
        let told = |source: &io::Error| source.to_string().contains("(os error 524)");
        matches!(self, Self::Refused { source, .. } if told(source))
    }

    /// A map did not do what it was asked to.
    pub(crate) fn map(name: &str) -> impl FnOnce(libbpf_rs::Error) -> Self + use<> {
        Self::libbpf("use map", name)
    }
}

/// libbpf's kinds are named after those of the standard library.
trait IntoIo {
    fn into_io(self) -> io::ErrorKind;
}

impl IntoIo for libbpf_rs::ErrorKind {
    fn into_io(self) -> io::ErrorKind {
        match self {
            Self::PermissionDenied => io::ErrorKind::PermissionDenied,
            Self::NotFound => io::ErrorKind::NotFound,
            Self::OutOfMemory => io::ErrorKind::OutOfMemory,
            Self::InvalidInput => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::Other,
        }
    }
}

/// An object whose constants may still be set.
#[derive(Debug)]
pub struct Opened {
    name: &'static str,
    object: OpenObject,
}

impl Opened {
    /// Reads an object file. `name` is for messages.
    ///
    /// # Errors
    /// It is not one.
    pub fn read(name: &'static str, file: &[u8]) -> Result<Self, BpfError> {
        quiet();
        let object =
            ObjectBuilder::default().open_memory(file).map_err(BpfError::libbpf("read", name))?;
        Ok(Self { name, object })
    }

    /// Sets the object's constants (`.rodata`), which have to be as many bytes as it has or fewer.
    ///
    /// # Errors
    /// It has none, or fewer bytes of them.
    pub fn set_constants(&mut self, bytes: &[u8]) -> Result<(), BpfError> {
        let no_such = || BpfError::NoSuch(format!("{} bytes of constants", bytes.len()));
        let mut maps = self.object.maps_mut();
        let mut map = maps
            .find(|map| map.name().to_string_lossy().ends_with(".rodata"))
            .ok_or_else(no_such)?;
        let value = map.initial_value_mut().ok_or_else(no_such)?;
        value.get_mut(..bytes.len()).ok_or_else(no_such)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Sets how many entries a map has room for.
    ///
    /// # Errors
    /// There is no such map.
    pub fn set_max_entries(&mut self, map: &str, entries: u32) -> Result<(), BpfError> {
        let no_such = || BpfError::NoSuch(format!("map {map}"));
        let mut found = self.object.maps_mut().find(|m| m.name() == map).ok_or_else(no_such)?;
        found.set_max_entries(entries).map_err(BpfError::libbpf("resize map", map))
    }

    /// Has the programs use a map that is there already.
    ///
    /// # Errors
    /// There is no such map, or the two are not alike.
    pub fn share_map(&mut self, map: &str, with: &MapHandle) -> Result<(), BpfError> {
        let no_such = || BpfError::NoSuch(format!("map {map}"));
        let mut maps = self.object.maps_mut();
        let mut found =
            maps.find(|m| is_called(&m.name().to_string_lossy(), map)).ok_or_else(no_such)?;
        found.reuse_fd(with.as_fd()).map_err(BpfError::libbpf("share map", map))
    }

    /// Leaves a program out, for a kernel that would refuse it.
    ///
    /// # Errors
    /// There is no such program.
    pub fn leave_out(&mut self, program: &str) -> Result<(), BpfError> {
        let no_such = || BpfError::NoSuch(format!("program {program}"));
        let mut found =
            self.object.progs_mut().find(|p| p.name() == program).ok_or_else(no_such)?;
        found.set_autoload(false);
        Ok(())
    }

    /// Its programs and maps, in its order: `program device_in`, `map events`.
    pub fn names(&self) -> Vec<String> {
        let programs = self.object.progs();
        let programs = programs.map(|p| format!("program {}", p.name().to_string_lossy()));
        let maps = self.object.maps().map(|m| format!("map {}", m.name().to_string_lossy()));
        programs.chain(maps).collect()
    }

    /// Has the kernel check and take all programs.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn load(self) -> Result<Loaded, BpfError> {
        let object = self.object.load().map_err(BpfError::libbpf("load", self.name))?;
        Ok(Loaded { object })
    }
}

/// An object whose programs and maps the kernel has.
#[derive(Debug)]
pub struct Loaded {
    object: Object,
}

impl Loaded {
    /// A program's descriptor, to link it with.
    ///
    /// # Errors
    /// There is no such program, or no descriptor to be had.
    pub fn program(&self, name: &str) -> Result<OwnedFd, BpfError> {
        let program = self.object.progs_mut().find(|program| program.name() == name);
        let program = program.ok_or_else(|| BpfError::NoSuch(format!("program {name}")))?;
        program.as_fd().try_clone_to_owned().map_err(BpfError::refused("share program", name))
    }

    /// A map. Outlives the object.
    ///
    /// # Errors
    /// There is no such map, or no descriptor to be had.
    pub fn map(&self, name: &str) -> Result<MapHandle, BpfError> {
        let map = self.object.maps().find(|map| is_called(&map.name().to_string_lossy(), name));
        let map = map.ok_or_else(|| BpfError::NoSuch(format!("map {name}")))?;
        MapHandle::try_from(&map).map_err(BpfError::libbpf("share map", name))
    }
}

/// Maps of constants and variables are called after the object too, cut to 15 characters.
fn is_called(found: &str, name: &str) -> bool {
    found == name || (name.starts_with('.') && found.ends_with(name))
}

/// libbpf says on standard error what it is about to return as an error too.
fn quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        libbpf_rs::set_print(None);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_compiled_programs_may_is_told_from_other_refusals() {
        let refused =
            |code| BpfError::libbpf("load", "it")(libbpf_rs::Error::from_raw_os_error(code));
        assert!(refused(524).lacks_compiler());
        assert!(!refused(nix::libc::EPERM).lacks_compiler());
        assert!(!BpfError::NoSuch("(os error 524)".to_owned()).lacks_compiler());
    }
}
