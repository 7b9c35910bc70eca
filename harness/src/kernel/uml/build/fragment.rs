// SPDX-License-Identifier: Apache-2.0
//! Options that a kernel is to have, as a file of Kconfig's form.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::BuildError;

/// The project's own.
const OURS: &str = include_str!("../lab.config");
/// Most that is read of a user's fragment, bytes: a whole configuration is 300 KiB.
const BYTES_MAX: u64 = 1 << 20;
/// How the line above an option says that a kernel will do without it.
const OPTIONAL: &str = "# optional: ";

/// An option and the value it is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// `CONFIG_IP_VS`.
    pub name: String,
    /// `y`, `n`, a number or a quoted text.
    pub value: String,
    /// Whether a kernel without it is of no use.
    pub required: bool,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// Options in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    options: Vec<Wanted>,
}

impl Fragment {
    /// The project's: what modes, CNIs, engines and wire emulation need.
    pub fn ours() -> Self {
        Self::parse(Path::new("lab.config"), OURS).expect("a test reads the same file")
    }

    /// A user's file.
    ///
    /// # Errors
    /// It cannot be read, or a line of it is no option.
    pub fn read(path: &Path) -> Result<Self, BuildError> {
        let mut text = String::new();
        File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text)).map_err(
            |source| BuildError::Fragment {
                path: path.to_owned(),
                line: 0,
                found: source.to_string(),
            },
        )?;
        Self::parse(path, &text)
    }

    /// From text; `path` is for messages.
    ///
    /// # Errors
    /// A line is neither an option nor a comment.
    pub fn parse(path: &Path, text: &str) -> Result<Self, BuildError> {
        let mut options = Vec::new();
        let mut above = "";
        for (index, line) in text.lines().map(str::trim).enumerate() {
            let required = !above.starts_with(OPTIONAL);
            let found = match unset(line).map(|name| (name, "n")).or_else(|| line.split_once('=')) {
                _ if line.is_empty() || (line.starts_with('#') && unset(line).is_none()) => None,
                Some((name, value)) if is_name(name) && !value.is_empty() => Some((name, value)),
                _ => {
                    return Err(BuildError::Fragment {
                        path: path.to_owned(),
                        line: index + 1,
                        found: format!("`{line}` is not CONFIG_NAME=VALUE"),
                    });
                }
            };
            options.extend(found.map(|(name, value)| Wanted {
                name: name.to_owned(),
                value: value.to_owned(),
                required,
            }));
            above = line;
        }
        Ok(Self { options })
    }

    /// Lays another fragment over this one: where both name an option, the other's word holds.
    pub fn lay_over(&mut self, other: Self) {
        self.options.retain(|mine| other.options.iter().all(|theirs| theirs.name != mine.name));
        self.options.extend(other.options);
    }

    /// As Kconfig reads it.
    pub(super) fn text(&self) -> String {
        self.options.iter().map(|wanted| format!("{wanted}\n")).collect()
    }

    /// What a configuration made of this does not have.
    pub(super) fn not_taken(&self, config: &str) -> Vec<Wanted> {
        let value =
            |name: &str| config.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let taken = |wanted: &&Wanted| value(&wanted.name).unwrap_or("n") == wanted.value;
        self.options.iter().filter(|wanted| !taken(wanted)).cloned().collect()
    }
}

/// `# CONFIG_SMP is not set`: Kconfig's way to say `n`.
fn unset(line: &str) -> Option<&str> {
    line.strip_prefix("# ")?.strip_suffix(" is not set").filter(|name| is_name(name))
}

fn is_name(name: &str) -> bool {
    name.strip_prefix("CONFIG_").is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    })
}
