// SPDX-License-Identifier: Apache-2.0
//! Manifests of CNIs, had before the process leaves the host's network: from files, or fetched and
//! compared with what they have to be.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use super::published::{Published, published};
use crate::Unavailable;
use crate::plan::{CniChoice, CniFiles, CniKind, PlanError, Profile};

/// Largest manifest, bytes; Calico's has 300 KiB.
const MANIFEST_MAX: u64 = 4 << 20;
/// How long a manifest may take to be fetched, seconds.
const FETCH_S: &str = "60";

/// A CNI's manifest, and archives with its images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supply {
    /// Text of the manifest.
    pub manifest: String,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// File or address that it is from.
    pub source: String,
    /// Archives with images, for the nodes.
    pub images: Vec<PathBuf>,
}

/// Those of a run's CNIs.
#[derive(Clone, Debug, Default)]
pub struct Supplies(BTreeMap<CniKind, Result<Supply, Unavailable>>);

impl Supplies {
    /// Reads or fetches the manifests of the profile's CNIs, as far as these come as manifests. What cannot
    /// be had is a reason to skip that CNI's cases.
    ///
    /// # Errors
    /// A file that the profile names cannot be read, or is not the one that it says.
    pub fn gather(profile: &Profile) -> Result<Self, PlanError> {
        let mut all = BTreeMap::new();
        for cni in profile.matrix.cni.iter().map(CniChoice::kind) {
            let Some(published) = published(cni) else { continue };
            let files = profile.lab.cni.get(&cni).cloned().unwrap_or_default();
            let supply = match &files.manifest {
                Some(path) => Ok(given(cni, path, &files)?),
                None => fetched(published, &files),
            };
            let wrong =
                |key: &str, message| PlanError { key: format!("lab.cni.{cni}.{key}"), message };
            for path in &files.images {
                File::open(path)
                    .map_err(|error| wrong("images", format!("{}: {error}", path.display())))?;
            }
            all.insert(cni, supply);
        }
        Ok(Self(all))
    }

    /// That of a CNI; `None` for one that does not come as a manifest.
    ///
    /// # Errors
    /// It could not be had.
    pub(super) fn of(&self, cni: CniKind) -> Result<Option<&Supply>, Unavailable> {
        match self.0.get(&cni) {
            Some(supply) => supply.as_ref().map(Some).map_err(Clone::clone),
            None if cni.is_by_manifest() => Err(Unavailable::new(
                format!("a manifest of {cni}"),
                "none was looked for",
                format!("--cni {cni}"),
            )),
            None => Ok(None),
        }
    }
}

/// A manifest from a file.
fn given(cni: CniKind, path: &Path, files: &CniFiles) -> Result<Supply, PlanError> {
    let wrong = |key: &str, message| PlanError { key: format!("lab.cni.{cni}.{key}"), message };
    let read = File::open(path).and_then(bounded);
    let manifest = read.map_err(|error| {
        wrong("manifest", format!("failed to read {}: {error}", path.display()))
    })?;
    let sha256 = digest(&manifest);
    match &files.sha256 {
        Some(asked) if !asked.eq_ignore_ascii_case(&sha256) => {
            Err(wrong("sha256", format!("{} has {sha256}, not {asked}", path.display())))
        }
        _ => Ok(Supply {
            manifest,
            sha256,
            source: path.display().to_string(),
            images: files.images.clone(),
        }),
    }
}

/// A published manifest, from the network.
fn fetched(published: &Published, files: &CniFiles) -> Result<Supply, Unavailable> {
    let Published { cni, version, origin, sha256, images } = published;
    let remedy =
        format!("--cni-manifest {cni}=FILE, and --cni-images {cni}=ARCHIVE without a network");
    let Some(asked) = sha256 else {
        return Err(Unavailable::new(
            format!(
                "a manifest of {cni} in a file: no trustworthy SHA-256 of a published one is known"
            ),
            "none given",
            format!("{remedy} (version {version}: {origin})"),
        ));
    };
    let need =
        || format!("{cni} {version}'s manifest from {origin}, which runs {}", images.join(", "));
    let text = fetch(origin).map_err(|found| Unavailable::new(need(), found, &*remedy))?;
    let found = digest(&text);
    if found != *asked {
        let found = format!("another file, whose SHA-256 is {found} and not {asked}");
        return Err(Unavailable::new(need(), found, remedy));
    }
    let source = (*origin).to_owned();
    Ok(Supply { manifest: text, sha256: found, source, images: files.images.clone() })
}

/// What is at an address, or why it cannot be had. curl knows the machine's proxies and certificates.
fn fetch(url: &str) -> Result<String, String> {
    let mut command = Command::new("curl");
    command
        .args(["--fail", "--silent", "--show-error", "--location", "--proto", "=https"])
        .args(["--max-time", FETCH_S, url])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut curl = command.spawn().map_err(|error| format!("no curl: {error}"))?;
    let text = bounded(curl.stdout.take().expect("piped"));
    if text.is_err() {
        // It may have more to say than is read.
        let _ = curl.kill();
    }
    let ended = curl.wait_with_output().map_err(|error| error.to_string())?;
    match text {
        Ok(text) if ended.status.success() => Ok(text),
        Ok(_) => Err(String::from_utf8_lossy(&ended.stderr).trim().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Text that is no longer than a manifest may be.
fn bounded(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    if from.take(MANIFEST_MAX + 1).read_to_string(&mut text)? as u64 > MANIFEST_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(folder: &Path, more: &str) -> Profile {
        let file = folder.join("calico.yaml");
        std::fs::write(&file, "kind: Pod\n").unwrap();
        let text = format!(
            "[matrix]\ncni = [\"ptp\", \"calico\", \"cilium\"]\n[lab.cni.calico]\nmanifest = {file:?}\n{more}"
        );
        Profile::parse(Path::new("p"), &text).unwrap()
    }

    #[test]
    fn a_file_is_taken_with_its_digest_and_one_that_is_another_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let supplies = Supplies::gather(&profile(folder.path(), "")).unwrap();
        let calico = supplies.of(CniKind::Calico).unwrap().unwrap();
        assert_eq!(calico.manifest, "kind: Pod\n");
        let asked = format!("sha256 = \"{}\"\n", calico.sha256.to_uppercase());
        assert!(Supplies::gather(&profile(folder.path(), &asked)).is_ok());
        let other = format!("sha256 = \"{}\"\n", "0".repeat(64));
        let refused = Supplies::gather(&profile(folder.path(), &other)).unwrap_err();
        assert_eq!(refused.key, "lab.cni.calico.sha256");
        assert!(refused.message.contains(&calico.sha256), "{refused}");
        let gone = Supplies::gather(&profile(folder.path(), "images = [\"/nonexistent.tar\"]\n"));
        assert_eq!(gone.unwrap_err().key, "lab.cni.calico.images");
    }

    #[test]
    fn what_nobody_can_vouch_for_has_to_be_given() {
        let folder = tempfile::tempdir().unwrap();
        let supplies = Supplies::gather(&profile(folder.path(), "")).unwrap();
        let missing = supplies.of(CniKind::Cilium).unwrap_err();
        assert!(missing.need.contains("SHA-256"), "{missing}");
        assert!(missing.remedy.contains("--cni-manifest cilium=FILE"), "{missing}");
        assert_eq!(supplies.of(CniKind::Ptp), Ok(None));
    }

    #[test]
    fn an_address_where_nobody_is_says_so() {
        // Nothing listens at port 1.
        let why = fetch("https://127.0.0.1:1/manifest.yml").unwrap_err();
        assert!(why.contains("127.0.0.1"), "{why}");
        assert!(fetch("http://127.0.0.1:1/").unwrap_err().contains("http"), "only https is spoken");
    }

    #[test]
    fn what_is_too_long_is_not_read() {
        assert!(bounded(&vec![b'a'; MANIFEST_MAX as usize][..]).is_ok());
        assert!(bounded(&vec![b'a'; MANIFEST_MAX as usize + 1][..]).is_err());
    }
}
