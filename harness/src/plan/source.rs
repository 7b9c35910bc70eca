// SPDX-License-Identifier: Apache-2.0
//! Reads a profile's text over the default profile's, and names file, line and key of what is wrong.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::Profile;

/// Text of `profiles/default.toml`.
pub const DEFAULT_PROFILE: &str = include_str!("../../../profiles/default.toml");

/// The profiles this program was built with, by name, in the order of a list.
pub const PROFILES: [(&str, &str); 8] = [
    ("default", DEFAULT_PROFILE),
    ("smoke", include_str!("../../../profiles/smoke.toml")),
    ("proxy-modes", include_str!("../../../profiles/proxy-modes.toml")),
    ("cni", include_str!("../../../profiles/cni.toml")),
    ("service-scale", include_str!("../../../profiles/service-scale.toml")),
    ("tail", include_str!("../../../profiles/tail.toml")),
    ("connections", include_str!("../../../profiles/connections.toml")),
    ("gate", include_str!("../../../profiles/gate.toml")),
];

/// Longest profile read, bytes.
const PROFILE_BYTES_MAX: u64 = 1 << 20;

/// A profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It cannot be read.
    #[error("failed to read profile {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// It is larger than any profile.
    #[error("failed to read profile {path}: it is larger than 1 MiB")]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// It says something that is not a profile.
    #[error("{path}:{line}: {}{message}", key_prefix(key))]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Key path, empty when the text is not TOML.
        key: String,
        /// What is wrong.
        message: String,
    },
}

fn key_prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}

impl Profile {
    /// The default profile.
    ///
    /// # Errors
    /// Never for the text this program was built with; a test holds that.
    pub fn embedded() -> Result<Self, ProfileError> {
        Self::parse(Path::new("profiles/default.toml"), "")
    }

    /// The profile of this program by its name; `None` where it has none of that name.
    ///
    /// # Errors
    /// Never for the texts this program was built with; a test holds that.
    pub fn named(name: &str) -> Result<Option<Self>, ProfileError> {
        let text = PROFILES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
        let path = || PathBuf::from(format!("profiles/{name}.toml"));
        text.map(|text| Self::parse(&path(), text)).transpose()
    }

    /// Reads a profile from a file.
    ///
    /// # Errors
    /// The file is unreadable or says something that is not a profile.
    pub fn read(path: &Path) -> Result<Self, ProfileError> {
        let read = |source| ProfileError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(read)?.len() > PROFILE_BYTES_MAX {
            return Err(ProfileError::TooLarge { path: path.to_owned() });
        }
        Self::parse(path, &std::fs::read_to_string(path).map_err(read)?)
    }

    /// Reads a profile's text; keys it does not name come from the default profile.
    ///
    /// # Errors
    /// The text says something that is not a profile.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ProfileError> {
        let malformed = |offset: usize, key: String, message: String| ProfileError::Malformed {
            path: path.to_owned(),
            line: text[..offset.min(text.len())].matches('\n').count() + 1,
            key,
            message,
        };
        let own: toml::Table = toml::from_str(text).map_err(|error| {
            malformed(
                error.span().map_or(0, |span| span.start),
                String::new(),
                error.message().to_owned(),
            )
        })?;
        let mut whole: toml::Table =
            toml::from_str(DEFAULT_PROFILE).expect("a test parses the embedded profile");
        // What the default profile says of itself is not true of another one.
        if !own.is_empty() {
            whole.insert("about".to_owned(), toml::Value::String(String::new()));
        }
        overlay(&mut whole, own);
        let profile: Self =
            serde_path_to_error::deserialize(toml::Value::Table(whole)).map_err(|error| {
                let key = error.path().to_string();
                let message = error.into_inner().message().to_owned();
                malformed(offset_of(text, &key, &message), key, message)
            })?;
        profile.lab.wire.check().map_err(|(leaf, message)| {
            let key = format!("lab.wire.{leaf}");
            malformed(offset_of(text, &key, &message), key, message)
        })?;
        for (cni, files) in &profile.lab.cni {
            files.check(*cni).map_err(|(leaf, message)| {
                let key = format!("lab.cni.{cni}.{leaf}").trim_end_matches('.').to_owned();
                malformed(offset_of(text, &key, &message), key, message)
            })?;
        }
        Ok(profile)
    }

    /// The profile as TOML, every default filled in, for the record.
    pub fn resolved(&self) -> String {
        toml::to_string(self).expect("a profile came from TOML and goes back to it")
    }
}

/// Replaces what `over` names; tables are merged, anything else is taken whole.
fn overlay(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => overlay(base, over),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

/// Where in `text` the value at a key path begins, as far down as the path exists there. An unknown
/// key is named by the message, not by the path.
fn offset_of(text: &str, key: &str, message: &str) -> usize {
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let Ok(document) = DeTable::parse(text) else { return 0 };
    let mut table = document.get_ref();
    let mut offset = 0;
    for part in key.split(['.', '[']).chain(unknown) {
        let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == part) else {
            continue;
        };
        offset = name.span().start;
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::super::{HOST_KERNEL, Plan};
    use super::*;

    fn error(text: &str) -> String {
        Profile::parse(Path::new("mine.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn the_embedded_profile_is_whole() {
        let profile = Profile::embedded().unwrap();
        assert_eq!(profile.name, "default");
        assert!(profile.workload.contains_key("newconn"));
    }

    #[test]
    fn every_profile_has_its_name_a_question_and_a_text_and_makes_a_plan() {
        for (name, _) in PROFILES {
            let profile = Profile::named(name).unwrap().unwrap();
            assert_eq!(profile.name, name);
            assert!(profile.question.ends_with('?'), "{name}: {}", profile.question);
            let sentences = profile.about.matches(['.', ':', ';']).count();
            assert!(sentences >= 3 && !profile.about.contains("\n\n"), "{name}: {}", profile.about);
            let plan =
                Plan::new(&profile, &[HOST_KERNEL]).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!((2..500).contains(&plan.cases()), "{name} has {} cases", plan.cases());
        }
        assert_eq!(Profile::named("nonesuch").unwrap(), None);
    }

    #[test]
    fn every_file_in_profiles_is_built_in() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // A folder of examples is none.
            if path.is_dir() {
                continue;
            }
            let stem = path.file_stem().unwrap().to_str().unwrap();
            assert!(PROFILES.iter().any(|(name, _)| *name == stem), "{stem}");
        }
    }

    #[test]
    fn a_profile_that_says_nothing_of_itself_does_not_speak_as_the_default() {
        let profile = Profile::parse(Path::new("p"), "[run]\niterations = 7\n").unwrap();
        assert_eq!(profile.about, "");
    }

    #[test]
    fn a_profile_names_only_what_it_changes() {
        let profile = Profile::parse(Path::new("p"), "[run]\niterations = 7\n").unwrap();
        assert_eq!(profile.run.iterations, 7);
        assert_eq!(profile.run.duration, Profile::embedded().unwrap().run.duration);
    }

    #[test]
    fn a_resolved_profile_reads_back_as_itself() {
        let profile = Profile::embedded().unwrap();
        assert_eq!(Profile::parse(Path::new("p"), &profile.resolved()).unwrap(), profile);
    }

    #[test]
    fn files_of_a_cni_are_read_and_written_back() {
        let digest = "0a".repeat(32);
        let text = format!(
            "[lab.cni.flannel]\nmanifest = \"f.yml\"\nsha256 = \"{digest}\"\nimages = [\"f.tar\"]\n"
        );
        let profile = Profile::parse(Path::new("p"), &text).unwrap();
        let files = &profile.lab.cni[&crate::plan::CniKind::Flannel];
        assert_eq!(files.sha256.as_deref(), Some(&*digest));
        assert_eq!(Profile::parse(Path::new("p"), &profile.resolved()).unwrap(), profile);
    }

    #[test]
    fn what_is_wrong_is_named_by_file_line_and_key() {
        let messages = [
            "\n[run]\nduration = 2\n",
            "[run]\nduration = \"2 parsecs\"\n",
            "[run]\n\nduraton = \"2s\"\n",
            "[matrix]\nmode = [\"iptables\", \"ebtables\"]\n",
            "[workload.mine]\nconnection = \"newconn\"\n",
            "[run\n",
            "[lab.wire]\nloss = 1\n",
            "[lab.wire]\nrate_mbit = -3\n",
            "[lab.wire]\ndelay = \"1ms\"\njitter = \"2ms\"\n",
            "[lab]\nnodes = 2\n[lab.wire]\nreorder = 0.25\n",
            "[lab.wire]\nduplicate = 0.1\n",
            "[lab.cni.ptp]\nmanifest = \"ptp.yml\"\n",
            "[lab.cni.flannel]\nmanifest = \"f.yml\"\nsha256 = \"0123\"\n",
            "[lab.cni.weave]\nmanifest = \"weave.yml\"\n",
        ]
        .map(error);
        insta::assert_snapshot!(messages.join("\n"));
    }
}
