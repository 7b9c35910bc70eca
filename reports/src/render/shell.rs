// SPDX-License-Identifier: Apache-2.0
//! A command as a shell would read it back.

/// The words joined, each quoted where a POSIX shell would otherwise take it apart.
pub(crate) fn command(words: &[String]) -> String {
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_a_shell_would_split_are_quoted() {
        let words = ["cargo", "xtask", "bench", "--out", "my run", "it's", ""].map(str::to_owned);
        assert_eq!(command(&words), r"cargo xtask bench --out 'my run' 'it'\''s' ''");
    }
}
