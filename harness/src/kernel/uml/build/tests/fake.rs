// SPDX-License-Identifier: Apache-2.0
//! A kernel tree small enough to be built in a test: its Makefile tells what it was called with, and
//! its kernel is a program that answers as one does.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::super::*;

/// `lacks` lists options that Kconfig drops; `breaks` and `hangs` are there or not.
const MAKEFILE: &str = r#"
SAY = @echo called $@ for $(ARCH), user $(KBUILD_BUILD_USER) host $(KBUILD_BUILD_HOST) \
	version $(KBUILD_BUILD_VERSION) time $(KBUILD_BUILD_TIMESTAMP) locale $(LC_ALL)
TOP := $(CURDIR)
defconfig:
	$(SAY)
	@printf '# dated\nCONFIG_UML=y\nCONFIG_CC_VERSION_TEXT="gcc (Fake) 1.0"\n' >$(O)/.config
olddefconfig:
	$(SAY)
	@grep -v -w -f $(TOP)/lacks $(O)/.config | sed 's/^\(.*\)=n$$/# \1 is not set/' >$(O)/new
	@mv $(O)/new $(O)/.config
linux:
	$(SAY)
	@if test -e $(TOP)/breaks; then echo 'tcp.c:1: error: no such thing' >&2; exit 1; fi
	@if test -e $(TOP)/hangs; then sleep 600 & echo sleeper $$!; wait; fi
	@cc -x c -o $(O)/linux $(TOP)/kernel.c
"#;

const KERNEL: &str = r#"
#include <stdio.h>
#include <string.h>
int main(int n, char **words) {
	puts(n > 1 && !strcmp(words[1], "--version") ? "7.9.9" : "CONFIG_UML=y");
	return 0;
}
"#;

pub(super) struct FakeTree {
    dir: TempDir,
    path: PathBuf,
    pub(super) store: Store,
}

impl FakeTree {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("linux");
        fs::create_dir_all(path.join("arch/um")).unwrap();
        for (name, text) in [
            ("Makefile", MAKEFILE),
            ("Kconfig", ""),
            ("arch/um/Kconfig", ""),
            ("kernel.c", KERNEL),
            // A pattern that no line has: an empty file of patterns would be fine for GNU grep only.
            ("lacks", "CONFIG_NOBODY_HAS\n"),
        ] {
            fs::write(path.join(name), text).unwrap();
        }
        let store = Store::at(dir.path().join("cache/kernels"));
        fs::create_dir_all(store.folder()).unwrap();
        Self { dir, path, store }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn lacks(&self, options: &[&str]) {
        fs::write(self.path.join("lacks"), options.join("\n") + "\n").unwrap();
    }

    /// Builds, and stops where a sleeper says that it sleeps.
    pub(super) fn build(&self, cancel: &Cancel) -> (Result<Built, BuildError>, Vec<String>) {
        let request = Request { source: Some(self.path.clone()), ..Request::default() };
        let mut lines = Vec::new();
        let built = Asked::new(&request).and_then(|asked| {
            asked.build(&self.store, "2026-11-25T10:00:00+00:00", cancel, &mut |doing| {
                if let Doing::Line(line) = doing {
                    if line.starts_with("sleeper ") {
                        cancel.request();
                    }
                    lines.push(line.to_owned());
                }
            })
        });
        (built, lines)
    }

    /// Every file of the tree, with its content.
    pub(super) fn listing(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut folders = vec![self.dir.path().join("linux")];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir().unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let content = fs::read(&path).unwrap();
                    files.push((path, content));
                }
            }
        }
        files.sort();
        files
    }
}
