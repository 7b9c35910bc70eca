// SPDX-License-Identifier: Apache-2.0
//! The programs of a list: found, asked for their versions, called.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::answer::{self, Refusal};
use super::error::ExecError;
use crate::Unavailable;
use crate::net::{Ended, Netns, Tool};
use crate::plan::Conflist;

/// Where programs are looked for unless CNI_PATH says otherwise: the protocol's usual folder, and
/// Debian's.
pub const FOLDERS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];
/// Debian's package of the reference plugins.
pub const PACKAGE: &str = "containernetworking-plugins";

/// How long one call may take. The kernel does what it is asked within milliseconds; `iptables` may
/// wait for its lock, and a loaded machine for its turn.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most that a plugin may write to either stream, bytes.
const OUTPUT_BYTES_MAX: u64 = 256 * 1024;

/// The programs of a list, as this machine has them.
#[derive(Clone, Debug)]
pub struct Plugins {
    folders: Vec<PathBuf>,
    programs: Vec<Program>,
    patience: Duration,
}

/// A plugin's program.
#[derive(Clone, Debug)]
struct Program {
    name: String,
    path: PathBuf,
    sha256: String,
    /// Its own word for its version.
    about: String,
}

/// One call.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) verb: &'static str,
    pub(super) node: &'a Netns,
    pub(super) pod: &'a Netns,
    pub(super) container: &'a str,
    /// `CNI_ARGS`.
    pub(super) args: String,
    pub(super) config: &'a Map<String, Value>,
}

impl Plugins {
    /// Looks for a list's programs in the folders of CNI_PATH, or in [`FOLDERS`], and asks each which
    /// versions it speaks; on `host`, because they are not to see more than a node.
    ///
    /// # Errors
    /// One is missing, or does not speak the list's version.
    pub fn find(list: &Conflist, host: &Netns) -> Result<Self, Unavailable> {
        let folders = match std::env::var_os("CNI_PATH") {
            Some(path) if !path.is_empty() => std::env::split_paths(&path).collect(),
            _ => FOLDERS.map(PathBuf::from).to_vec(),
        };
        Self::find_in(folders, list, host)
    }

    /// The same in folders that are said.
    ///
    /// # Errors
    /// As [`Plugins::find`].
    pub fn find_in(
        folders: Vec<PathBuf>,
        list: &Conflist,
        host: &Netns,
    ) -> Result<Self, Unavailable> {
        let programs = list
            .programs()
            .into_iter()
            .map(|name| Program::find(name, &folders, list.version(), host))
            .collect::<Result<_, _>>()?;
        Ok(Self { folders, programs, patience: PATIENCE })
    }

    /// Kills a call and fails after this long; 20 s unless called.
    #[must_use]
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// A line for each program: where it is, what it says of itself, its digest.
    pub fn evidence(&self) -> impl Iterator<Item = String> {
        self.programs.iter().map(|Program { name, path, sha256, about }| {
            format!("plugin {name} is {} (`{about}`, sha256 {sha256})", path.display())
        })
    }

    /// Calls a plugin and returns what it wrote to standard output.
    pub(super) fn call(&self, plugin: &str, call: &Call<'_>) -> Result<Vec<u8>, ExecError> {
        let (verb, pod) = (call.verb, call.pod.name().to_owned());
        let program = self.programs.iter().find(|program| program.name == plugin);
        let path = program.map_or(Path::new(plugin), |program| &program.path);
        let input = serde_json::to_vec(call.config).expect("it is JSON");
        let folders = std::env::join_paths(&self.folders).unwrap_or_default();
        let tool = Tool::new(path.to_string_lossy())
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", call.container)
            .env("CNI_NETNS", call.pod.path())
            .env("CNI_IFNAME", crate::cni::POD_ETH)
            .env("CNI_ARGS", &call.args)
            .env("CNI_PATH", folders)
            .stdin(input)
            .within(self.patience)
            .writes_at_most(OUTPUT_BYTES_MAX);
        let plugin = plugin.to_owned();
        let Ended { status, stdout, stderr } = match tool.end_on(call.node) {
            Ok(ended) => ended,
            Err(error) => {
                let source = Box::new(error);
                return Err(ExecError::Tool { plugin, verb, pod, source });
            }
        };
        if status.success() {
            return Ok(stdout);
        }
        Err(match Refusal::parse(&stdout) {
            Ok(Refusal { code, msg, details }) => {
                ExecError::Refused { plugin, verb, pod, code, msg, details }
            }
            Err(reason) => ExecError::Broken { plugin, verb, pod, status, reason, stderr },
        })
    }
}

impl Program {
    fn find(
        name: &str,
        folders: &[PathBuf],
        version: &str,
        host: &Netns,
    ) -> Result<Self, Unavailable> {
        let need = format!("the CNI plugin {name}");
        let path = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
        let Some(path) = path else {
            let folders: Vec<_> =
                folders.iter().map(|folder| folder.display().to_string()).collect();
            return Err(Unavailable::new(
                need,
                format!("no such program in {}", folders.join(", ")),
                format!("apt-get install {PACKAGE}, or CNI_PATH with its folder"),
            ));
        };
        let of_use = |found: String| {
            let remedy = format!("another {}, or apt-get install {PACKAGE}", path.display());
            Unavailable::new(format!("{need} that speaks version {version}"), found, remedy)
        };
        let ask = |command: &str| {
            let tool = Tool::new(path.to_string_lossy())
                .env("CNI_COMMAND", command)
                .stdin(format!(r#"{{"cniVersion": "{version}"}}"#))
                .within(PATIENCE)
                .writes_at_most(OUTPUT_BYTES_MAX);
            tool.end_on(host).map_err(|error| of_use(error.to_string()))
        };
        let answer = ask("VERSION")?;
        let supported = answer::versions(&answer.stdout)
            .map_err(|error| of_use(format!("an answer to VERSION that is none: {error}")))?;
        if !supported.iter().any(|supported| supported == version) {
            return Err(of_use(format!("one that speaks {}", supported.join(", "))));
        }
        let bytes = std::fs::read(&path).map_err(|error| of_use(error.to_string()))?;
        let digest = Sha256::digest(&bytes);
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        // Called without a command, a plugin built with the reference library says what it is. One that
        // is not need not.
        let said = ask("").map(|ended| ended.stderr).unwrap_or_default();
        let about = said.lines().next().unwrap_or_default().trim().to_owned();
        Ok(Self { name: name.to_owned(), path, sha256, about })
    }
}
