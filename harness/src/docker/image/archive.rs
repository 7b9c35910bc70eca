// SPDX-License-Identifier: Apache-2.0
//! An image as one file, in the form of `docker save`
//! (github.com/moby/docker-image-spec, v1.2, "Combined Image JSON + Filesystem Changeset Format"):
//! Docker and containerd both take it. Every byte follows from the programs.

use std::io;

use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use super::{AGENT_SOCKET, hex};

/// Mode of programs.
const RUN: u32 = 0o755;
/// Mode of a folder that anybody may write to.
const ANYBODY: u32 = 0o1777;

/// What an image of the agents holds.
pub(super) struct Archive<'a> {
    /// Processor, as image configurations name it.
    pub(super) architecture: &'static str,
    pub(super) load: &'a [u8],
    pub(super) target: &'a [u8],
    /// Paths and bytes.
    pub(super) probe: &'a [(String, Vec<u8>)],
}

impl Archive<'_> {
    /// The one layer: the programs, and folders to write in.
    pub(super) fn layer(&self) -> io::Result<Vec<u8>> {
        let mut layer = tar::Builder::new(Vec::new());
        folder(&mut layer, "run/")?;
        folder(&mut layer, "tmp/")?;
        file(&mut layer, "load", RUN, self.load)?;
        file(&mut layer, "target", RUN, self.target)?;
        for (path, bytes) in self.probe {
            file(&mut layer, path, RUN, bytes)?;
        }
        layer.into_inner()
    }

    /// The image's configuration.
    pub(super) fn config(&self, layer: &[u8]) -> Vec<u8> {
        let config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": { "Env": ["PATH=/"], "Cmd": ["/load", "--socket", AGENT_SOCKET], "WorkingDir": "/" },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex(&Sha256::digest(layer)))] },
        });
        config.to_string().into_bytes()
    }
}

/// The whole file.
pub(super) fn whole(name: &str, config: &[u8], layer: &[u8]) -> io::Result<Vec<u8>> {
    let config_name = format!("{}.json", hex(&Sha256::digest(config)));
    let layer_folder = format!("{}/", hex(&Sha256::digest(layer)));
    let layer_name = format!("{layer_folder}layer.tar");
    let manifest =
        json!([{ "Config": config_name, "RepoTags": [name], "Layers": [layer_name] }]).to_string();
    let mut archive = tar::Builder::new(Vec::new());
    folder(&mut archive, &layer_folder)?;
    file(&mut archive, &layer_name, 0o644, layer)?;
    file(&mut archive, &config_name, 0o644, config)?;
    file(&mut archive, "manifest.json", 0o644, manifest.as_bytes())?;
    archive.into_inner()
}

/// Agents run as whoever the cluster allows, so that everybody may put a socket there.
fn folder(archive: &mut tar::Builder<Vec<u8>>, path: &str) -> io::Result<()> {
    append(archive, EntryType::Directory, path, ANYBODY, &[])
}

fn file(
    archive: &mut tar::Builder<Vec<u8>>,
    path: &str,
    mode: u32,
    bytes: &[u8],
) -> io::Result<()> {
    append(archive, EntryType::Regular, path, mode, bytes)
}

/// Owner, group and time are 0: what is built does not depend on who builds it, and when.
fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    kind: EntryType,
    path: &str,
    mode: u32,
    bytes: &[u8],
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes)
}
