// SPDX-License-Identifier: Apache-2.0
//! A network configuration list of the Container Network Interface, read strictly enough that what
//! is handed to plugins is what its author meant (CNI specification 1.0.0, section 1).

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Versions of the protocol that are spoken. Older ones have results of another shape.
pub const CNI_VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// What is put in for each node when plugins are called, between `{{` and `}}`.
const PLACEHOLDERS: [&str; 6] =
    ["pod_cidr", "gateway", "default_route", "node_address", "nic", "mtu"];

/// Longest file read, bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Longest name: it is a part of a path.
const NAME_BYTES_MAX: usize = 64;
/// Most plugins in a list.
const PLUGINS_MAX: usize = 16;

/// A network configuration list. Equal where its text is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Conflist {
    text: String,
    name: String,
    version: String,
    disable_check: bool,
    plugins: Vec<Plugin>,
}

/// One plugin's part of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    /// Name of its program.
    pub program: String,
    /// Name of the program that it has its addresses from, where it says one.
    pub ipam: Option<String>,
    /// Its configuration, as it was written.
    pub config: Map<String, Value>,
}

impl Conflist {
    /// Reads one from a file.
    ///
    /// # Errors
    /// The file cannot be read, or is no such list; in words that follow the file's name.
    pub fn read(path: &Path) -> Result<Self, String> {
        let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
        if size > FILE_BYTES_MAX {
            return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
        }
        Self::parse(&std::fs::read_to_string(path).map_err(|error| error.to_string())?)
    }

    /// Reads one from its text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let Value::Object(list) = value else { return Err("it is no JSON object".to_owned()) };
        let version = string(&list, "cniVersion")?;
        if !CNI_VERSIONS.contains(&&*version) {
            let known = CNI_VERSIONS.join(", ");
            return Err(format!("cniVersion `{version}` is not one of {known}"));
        }
        let name = string(&list, "name")?;
        if !is_name(&name) {
            return Err(format!(
                "name `{name}` is not of letters, digits, `.`, `_` and `-` with a letter or digit first, \
                 {NAME_BYTES_MAX} at most"
            ));
        }
        let disable_check = match list.get("disableCheck") {
            None => false,
            Some(Value::Bool(disabled)) => *disabled,
            Some(other) => return Err(format!("disableCheck is {other}, not true or false")),
        };
        let plugins = match list.get("plugins") {
            Some(Value::Array(plugins)) => plugins,
            Some(_) => return Err("plugins is no array".to_owned()),
            None => {
                return Err(
                    "it has no `plugins`: a list is wanted, not one plugin's configuration"
                        .to_owned(),
                );
            }
        };
        if plugins.is_empty() || plugins.len() > PLUGINS_MAX {
            return Err(format!(
                "plugins has {} entries; it has to have 1 to {PLUGINS_MAX}",
                plugins.len()
            ));
        }
        let plugins: Vec<_> = plugins
            .iter()
            .enumerate()
            .map(|(index, plugin)| {
                Plugin::parse(plugin).map_err(|error| format!("plugins[{index}]: {error}"))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), name, version, disable_check, plugins })
    }

    /// Its text, as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What stands for the CNI in case ids and reports: `exec-` and its name.
    pub fn label(&self) -> String {
        format!("exec-{}", self.name)
    }

    /// Version of the protocol.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether plugins are to be asked whether all is as they made it: the protocol knows that
    /// question from 0.4.0 on.
    pub fn has_check(&self) -> bool {
        !self.disable_check && self.version != "0.3.1"
    }

    /// Its plugins, in the order of ADD.
    pub fn plugins(&self) -> &[Plugin] {
        &self.plugins
    }

    /// The plugin that makes the pod's interface.
    pub fn first(&self) -> &str {
        &self.plugins[0].program
    }

    /// SHA-256 of its text, hexadecimal.
    pub fn sha256(&self) -> String {
        let digest = Sha256::digest(self.text.as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Every program that is called, by the runtime or by a plugin; each once.
    pub fn programs(&self) -> Vec<&str> {
        let mut all: Vec<&str> = Vec::new();
        for plugin in &self.plugins {
            for program in std::iter::once(&plugin.program).chain(&plugin.ipam) {
                if !all.contains(&&**program) {
                    all.push(program);
                }
            }
        }
        all
    }
}

impl Plugin {
    fn parse(value: &Value) -> Result<Self, String> {
        let Value::Object(config) = value else { return Err("it is no JSON object".to_owned()) };
        let program = program(config)?;
        let ipam = match config.get("ipam") {
            None => None,
            // A plugin without addresses says so by an empty object.
            Some(Value::Object(ipam)) if ipam.is_empty() => None,
            Some(Value::Object(ipam)) => {
                Some(self::program(ipam).map_err(|error| format!("ipam: {error}"))?)
            }
            Some(_) => return Err("ipam is no JSON object".to_owned()),
        };
        placeholders(value)?;
        Ok(Self { program, ipam, config: config.clone() })
    }
}

/// A plugin's type, which is the name of its program.
fn program(config: &Map<String, Value>) -> Result<String, String> {
    let program = string(config, "type")?;
    if is_name(&program) { Ok(program) } else { Err(format!("type `{program}` is no file's name")) }
}

fn string(object: &Map<String, Value>, key: &str) -> Result<String, String> {
    match object.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(format!("{key} is {other}, not a string")),
        None => Err(format!("it has no `{key}`")),
    }
}

fn is_name(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.len() <= NAME_BYTES_MAX
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(inside)
}

/// Whether all between `{{` and `}}` is known: a misspelt one would go to the plugin as it is.
fn placeholders(value: &Value) -> Result<(), String> {
    match value {
        Value::String(text) => {
            let mut rest = &**text;
            while let Some((_, behind)) = rest.split_once("{{") {
                let (name, after) =
                    behind.split_once("}}").ok_or_else(|| format!("`{text}` lacks a `}}}}`"))?;
                if !PLACEHOLDERS.contains(&name) {
                    let known = PLACEHOLDERS.map(|name| format!("{{{{{name}}}}}")).join(", ");
                    return Err(format!("`{{{{{name}}}}}` is not one of {known}"));
                }
                rest = after;
            }
            Ok(())
        }
        Value::Array(values) => values.iter().try_for_each(placeholders),
        Value::Object(object) => object.values().try_for_each(placeholders),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

impl TryFrom<String> for Conflist {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Conflist> for String {
    fn from(list: Conflist) -> Self {
        list.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIST: &str = r#"{
        "cniVersion": "1.0.0", "name": "a.b_c-1",
        "plugins": [
            { "type": "bridge", "ipam": { "type": "host-local", "subnet": "{{pod_cidr}}" } },
            { "type": "portmap" }, { "type": "bridge" }
        ]
    }"#;

    #[test]
    fn a_list_says_its_name_version_and_programs() {
        let list = Conflist::parse(LIST).unwrap();
        assert_eq!((list.name(), list.version()), ("a.b_c-1", "1.0.0"));
        assert_eq!(list.label(), "exec-a.b_c-1");
        assert_eq!(list.programs(), ["bridge", "host-local", "portmap"]);
        assert!(list.has_check());
        assert_eq!(list.sha256().len(), 64);
    }

    #[test]
    fn check_is_left_out_where_the_list_or_its_version_says_so() {
        let old = LIST.replace("1.0.0", "0.3.1");
        let disabled = LIST.replace("\"name\"", "\"disableCheck\": true, \"name\"");
        for text in [old, disabled] {
            assert!(!Conflist::parse(&text).unwrap().has_check(), "{text}");
        }
    }

    #[test]
    fn a_case_carries_the_list_as_it_was_written() {
        let list = Conflist::parse(LIST).unwrap();
        let text = serde_json::to_string(&list).unwrap();
        assert_eq!(serde_json::from_str::<Conflist>(&text).unwrap(), list);
        assert!(serde_json::from_str::<Conflist>("\"{}\"").is_err());
    }

    #[test]
    fn what_is_no_list_says_why() {
        let of = |plugin: &str| {
            format!(r#"{{"cniVersion": "1.0.0", "name": "x", "plugins": [{plugin}]}}"#)
        };
        let texts = [
            "{".to_owned(),
            "[]".to_owned(),
            "{}".to_owned(),
            r#"{"cniVersion": "0.2.0", "name": "x", "plugins": []}"#.to_owned(),
            r#"{"cniVersion": "1.0.0", "name": "../x", "plugins": []}"#.to_owned(),
            r#"{"cniVersion": "1.0.0", "name": "x", "type": "bridge"}"#.to_owned(),
            r#"{"cniVersion": "1.0.0", "name": "x", "disableCheck": "yes", "plugins": []}"#
                .to_owned(),
            of(""),
            of("7"),
            of(r#"{"type": 7}"#),
            of(r#"{"type": "/bin/sh"}"#),
            of(r#"{"type": "bridge", "ipam": "host-local"}"#),
            of(r#"{"type": "bridge", "ipam": {"type": ".."}}"#),
            of(r#"{"type": "bridge", "ipam": {"type": "host-local", "subnet": "{{podcidr}}"}}"#),
            of(r#"{"type": "bridge", "mtu": ["{{mtu"]}"#),
        ];
        let said: Vec<_> = texts.iter().map(|text| Conflist::parse(text).unwrap_err()).collect();
        insta::assert_snapshot!(said.join("\n"));
    }

    #[test]
    fn a_file_larger_than_any_list_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(Conflist::read(file.path()).unwrap_err().contains("larger than 65536 bytes"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_a_name_that_passes_is_one_part_of_a_path(
            text in r#"[\[\]{}":,a-z0-9./ ]{0,200}"#, name in ".{0,70}",
        ) {
            let _ = Conflist::parse(&text);
            let name = serde_json::to_string(&name).unwrap();
            let list = LIST.replace("\"a.b_c-1\"", &name);
            if let Ok(list) = Conflist::parse(&list) {
                let path = Path::new(list.name());
                prop_assert_eq!(path.components().count(), 1);
                prop_assert_eq!(path.file_name().unwrap(), list.name());
            }
        }
    }
}
