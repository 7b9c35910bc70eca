// SPDX-License-Identifier: Apache-2.0
//! The page's one script, and the policy that lets no other run and no request leave the file.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// The script without its comments and indentation, which are for readers of the repository.
pub(crate) static SCRIPT: LazyLock<String> = LazyLock::new(|| {
    let lines = include_str!("../../templates/report.js").lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.fold(String::from("\n"), |text, line| text + line + "\n")
});

/// Content Security Policy (W3C, level 3) of a page with that script: all else is refused.
pub(crate) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(SCRIPT.as_bytes()));
    format!(
        "default-src 'none'; script-src 'sha256-{hash}'; style-src 'unsafe-inline'; img-src data:; \
         base-uri 'none'; form-action 'none'"
    )
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_small_and_cannot_end_its_element() {
        assert!(SCRIPT.len() < 16 << 10, "{} bytes", SCRIPT.len());
        for text in
            ["</script", "<!--", "fetch(", "XMLHttpRequest", "import(", "innerHTML", "eval("]
        {
            assert!(!SCRIPT.contains(text), "{text}");
        }
    }
}
