// SPDX-License-Identifier: Apache-2.0
//! A kernel's configuration as text that two builds can be compared by.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The lines that set an option, or say that it is not set; without the comments around them,
/// which name the file's maker and may carry a date.
pub fn normalised(config: &str) -> String {
    let mut text = String::with_capacity(config.len());
    for line in config.lines().map(str::trim_end) {
        let unset = line.starts_with("# CONFIG_") && line.ends_with(" is not set");
        if unset || line.starts_with("CONFIG_") {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// SHA-256, hexadecimal.
pub fn digest(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes whatever is written");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_do_not_make_two_configurations_of_one() {
        let dated = "#\n# Linux/um 7.2.13\n# Wed Nov 25\n#\nCONFIG_UML=y\n\n# Net\n# CONFIG_SMP is not set\n";
        let plain = "CONFIG_UML=y\n# CONFIG_SMP is not set\n";
        assert_eq!(normalised(dated), plain);
        assert_eq!(normalised(plain), plain);
        assert_ne!(
            digest(plain),
            digest(&plain.replace("# CONFIG_SMP is not set", "CONFIG_SMP=y"))
        );
    }

    #[test]
    fn a_digest_is_that_of_sha256sum() {
        let of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest(""), of_nothing);
    }
}
