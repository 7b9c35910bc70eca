// SPDX-License-Identifier: Apache-2.0
//! The image of the agents: made in memory from two static programs, so that no registry, no base
//! image and no build is needed. Where probes are to be put on nodes, the program that does it is in it
//! too: this one, with the libraries it is loaded with.

mod archive;
mod loaded;
mod program;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{DockerError, Engine};
use archive::Archive;

/// Where an agent of the image listens unless it is told otherwise.
pub const AGENT_SOCKET: &str = "/run/nic2pod.sock";
/// The image's name, without its tag.
const NAME: &str = "nic2pod/agents";
/// What containerd calls an image whose name says no registry (the reference of
/// `github.com/distribution/reference`, normalised).
const REGISTRY: &str = "docker.io";
/// Digits of the content's SHA-256 in the tag: 48 bits tell any two builds of a machine apart.
const TAG_DIGITS: usize = 12;
/// How long a node may take to import the image.
const IMPORT_PATIENCE: Duration = Duration::from_secs(120);
/// How long it may take to list its images.
const LIST_PATIENCE: Duration = Duration::from_secs(30);

/// The agents' image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A program's file.
    #[error("failed to read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A program is not fit for an image that holds nothing else.
    #[error("failed to put {program} into an image: {problem}")]
    Program {
        /// Which.
        program: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The archive.
    #[error("failed to write the image's archive: {0}")]
    Archive(#[source] std::io::Error),
}

/// A Docker archive with `/load` and `/target`, and where it is asked for, `/probe`. Without a command, a
/// container of it runs `/load --socket /run/nic2pod.sock`.
#[derive(Clone)]
pub struct AgentsImage {
    tag: String,
    archive: Vec<u8>,
}

impl AgentsImage {
    /// Of the programs in two files, or three; the third need not be static.
    ///
    /// # Errors
    /// They cannot be read, or are not programs for one kind of processor; the first two are not static,
    /// or libraries of the third are missing.
    pub fn of_files(load: &Path, target: &Path, probe: Option<&Path>) -> Result<Self, ImageError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| ImageError::Read { path: path.to_owned(), source })
        };
        let (load, target) = (read(load)?, read(target)?);
        let architecture = architecture(&load, &target)?;
        let probe = match probe {
            Some(path) => loaded::files(path, architecture)?,
            None => Vec::new(),
        };
        Self::of(&Archive { architecture, load: &load, target: &target, probe: &probe })
    }

    /// Of the programs' bytes. The same bytes make the same archive.
    ///
    /// # Errors
    /// They are not static programs for one kind of processor.
    pub fn new(load: &[u8], target: &[u8]) -> Result<Self, ImageError> {
        let architecture = architecture(load, target)?;
        Self::of(&Archive { architecture, load, target, probe: &[] })
    }

    fn of(content: &Archive<'_>) -> Result<Self, ImageError> {
        let layer = content.layer().map_err(ImageError::Archive)?;
        let config = content.config(&layer);
        let digest = hex(&Sha256::digest(&config));
        let tag = digest[..TAG_DIGITS].to_owned();
        let name = format!("{NAME}:{tag}");
        let archive = archive::whole(&name, &config, &layer).map_err(ImageError::Archive)?;
        Ok(Self { tag, archive })
    }

    /// Name and tag, for example `nic2pod/agents:0123456789ab`; the tag follows the content.
    pub fn reference(&self) -> String {
        format!("{NAME}:{}", self.tag)
    }

    /// The image's name, without its tag.
    pub fn name(&self) -> &'static str {
        NAME
    }

    /// The image's tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The archive's bytes, as `docker load` takes them.
    pub fn archive(&self) -> &[u8] {
        &self.archive
    }

    /// Loads it into the Engine, for hosts outside a cluster. Returns whether it had to be loaded.
    ///
    /// # Errors
    /// The Engine refuses, or its disk is full.
    pub fn load_into_engine(&self, engine: &Engine) -> Result<bool, DockerError> {
        let reference = self.reference();
        if engine.has_image(&reference)? {
            return Ok(false);
        }
        engine.load(&reference, self.archive.clone())?;
        Ok(true)
    }

    /// Imports it into the containerd of a cluster's node, where pods find it under
    /// [`AgentsImage::reference`]. Returns whether it had to be imported.
    ///
    /// # Errors
    /// The node's containerd refuses, or the node's disk is full.
    pub fn load_into_node(&self, engine: &Engine, node: &str) -> Result<bool, DockerError> {
        if self.is_in_node(engine, node)? {
            return Ok(false);
        }
        let command = ["ctr", "-n", "k8s.io", "images", "import", "--all-platforms", "-"];
        let done = engine.exec(node, &command, &self.archive, IMPORT_PATIENCE)?;
        if done.code != 0 {
            return Err(DockerError::command(IMPORT, node, done.code, &done.stderr));
        }
        if !self.is_in_node(engine, node)? {
            let said = format!("{} is not there afterwards", self.reference());
            return Err(DockerError::command(IMPORT, node, done.code, said.as_bytes()));
        }
        Ok(true)
    }

    fn is_in_node(&self, engine: &Engine, node: &str) -> Result<bool, DockerError> {
        let wanted = format!("{REGISTRY}/{}", self.reference());
        Ok(images_in_node(engine, node)?.contains(&wanted))
    }
}

/// Names of the images that the containerd of a cluster's node has, in full.
///
/// # Errors
/// The node's containerd refuses, or the Engine does.
pub(crate) fn images_in_node(engine: &Engine, node: &str) -> Result<Vec<String>, DockerError> {
    let list = ["ctr", "-n", "k8s.io", "images", "ls", "-q"];
    let listed = engine.exec(node, &list, &[], LIST_PATIENCE)?;
    if listed.code != 0 {
        return Err(DockerError::command("list images of", node, listed.code, &listed.stderr));
    }
    Ok(String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect())
}

/// The processor that both programs are for.
fn architecture(load: &[u8], target: &[u8]) -> Result<&'static str, ImageError> {
    let architecture = program::architecture("load", load)?;
    if program::architecture("target", target)? != architecture {
        let problem = "it is for another processor than load".to_owned();
        return Err(ImageError::Program { program: "target", problem });
    }
    Ok(architecture)
}

const IMPORT: &str = "import the agents' image into";

impl std::fmt::Debug for AgentsImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AgentsImage({}, {} bytes)", self.reference(), self.archive.len())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn image(load: &[u8]) -> AgentsImage {
        AgentsImage::of(&Archive { architecture: "amd64", load, target: b"target", probe: &[] })
            .unwrap()
    }

    fn files(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            assert_eq!(entry.header().mtime().unwrap(), 0);
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().display().to_string(), bytes)
        });
        entries.collect()
    }

    #[test]
    fn the_same_programs_make_the_same_archive_and_others_another_tag() {
        assert_eq!(image(b"one").archive(), image(b"one").archive());
        assert_eq!(image(b"one").reference(), image(b"one").reference());
        assert_ne!(image(b"one").tag(), image(b"two").tag());
    }

    #[test]
    fn the_archive_names_its_tag_its_config_and_its_layer_by_their_digests() {
        let image = image(b"one");
        let files = files(image.archive());
        let find = |name: &str| &files.iter().find(|file| file.0 == name).unwrap().1;
        let manifest: serde_json::Value = serde_json::from_slice(find("manifest.json")).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], image.reference());
        let name = manifest[0]["Config"].as_str().unwrap();
        let config = find(name);
        assert_eq!(name, format!("{}.json", hex(&Sha256::digest(config))));
        let layer = find(manifest[0]["Layers"][0].as_str().unwrap());
        let config: serde_json::Value = serde_json::from_slice(config).unwrap();
        let digest = format!("sha256:{}", hex(&Sha256::digest(layer)));
        assert_eq!(config["rootfs"]["diff_ids"][0], digest);
    }

    #[test]
    fn the_program_with_the_probes_is_in_the_layer_where_it_is_asked_for() {
        let (load, target) = (&b"load"[..], &b"target"[..]);
        let probe = [("probe".into(), b"this".to_vec()), ("lib/ld.so".into(), b"loader".to_vec())];
        let with = Archive { architecture: "amd64", load, target, probe: &probe };
        let image = AgentsImage::of(&with).unwrap();
        let outer = files(image.archive());
        let layer = &outer.iter().find(|file| file.0.ends_with("layer.tar")).unwrap().1;
        let names: Vec<_> = files(layer).into_iter().map(|file| file.0).collect();
        assert_eq!(names, ["run/", "tmp/", "load", "target", "probe", "lib/ld.so"]);
        assert_ne!(image.tag(), AgentsImage::of(&Archive { probe: &[], ..with }).unwrap().tag());
    }

    #[test]
    fn the_layer_holds_the_programs_and_a_folder_for_the_socket() {
        let image = image(b"one");
        let outer = files(image.archive());
        let layer = &outer.iter().find(|file| file.0.ends_with("layer.tar")).unwrap().1;
        let names: Vec<_> = files(layer).into_iter().map(|file| file.0).collect();
        assert_eq!(names, ["run/", "tmp/", "load", "target"]);
        assert!(AGENT_SOCKET.starts_with("/run/"));
    }
}
