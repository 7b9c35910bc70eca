// SPDX-License-Identifier: Apache-2.0
//! A capability this machine lacks.

/// What is missing, what is there instead, and what would supply it. Ends up as a skip's reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("needs {need}; found {found}; try: {remedy}")]
pub struct Unavailable {
    /// What is needed, for example `kernel option CONFIG_IP_VS`.
    pub need: String,
    /// What the machine has, in the words of whoever was asked.
    pub found: String,
    /// Command or change that supplies it.
    pub remedy: String,
}

impl Unavailable {
    /// Shorthand for the three texts.
    pub fn new(
        need: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { need: need.into(), found: found.into(), remedy: remedy.into() }
    }
}

impl From<Unavailable> for record::Reason {
    fn from(value: Unavailable) -> Self {
        Self { need: value.need, found: value.found, r#try: value.remedy }
    }
}
