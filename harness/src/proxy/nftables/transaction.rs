// SPDX-License-Identifier: Apache-2.0
//! One input of `nft -f`: commands for the table `ip kube-proxy`, which the kernel takes all or
//! none of. Written by hand instead of through `format!`, because 10,000 Services are 16 MB of it.

/// The table everything is in.
pub(super) const TABLE: &str = "kube-proxy";

/// Commands so far, and the rules and elements they add.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    text: String,
    rules: u64,
}

impl Transaction {
    /// With room for `bytes` of text.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), rules: 0 }
    }

    /// The text, and how many rules and elements it adds.
    pub(super) fn finish(self) -> (String, u64) {
        (self.text, self.rules)
    }

    /// Adds the table.
    pub(super) fn table(&mut self, comment: &str) {
        self.line(&["add table ip kube-proxy { comment \"", comment, "\" ; }"]);
    }

    /// Adds and deletes a chain of which nothing but the name is known: afterwards it is not there,
    /// whatever was before, and no kernel's answer depends on that.
    pub(super) fn forget_chain(&mut self, name: &str) {
        self.line(&["add chain ip kube-proxy ", name]);
        self.line(&["delete chain ip kube-proxy ", name]);
    }

    /// Adds a chain at a hook and empties it.
    pub(super) fn base_chain(&mut self, name: &str, kind: &str, hook: &str, priority: &str) {
        let at = [" { type ", kind, " hook ", hook, " priority ", priority, " ; }"].concat();
        self.line(&["add chain ip kube-proxy ", name, &at]);
        self.flush("chain", name);
    }

    /// Adds a chain that rules jump to and empties it.
    pub(super) fn chain(&mut self, name: &str) {
        self.line(&["add chain ip kube-proxy ", name]);
        self.flush("chain", name);
    }

    /// The same with a comment.
    pub(super) fn commented_chain(&mut self, name: &str, comment: &str) {
        self.line(&["add chain ip kube-proxy ", name, " { comment \"", comment, "\" ; }"]);
        self.flush("chain", name);
    }

    /// Adds a `set` or `map`; `properties` end in ` ;`.
    pub(super) fn container(&mut self, what: &str, name: &str, properties: &str) {
        self.line(&["add ", what, " ip kube-proxy ", name, " { ", properties, " }"]);
    }

    /// Empties a chain, set or map.
    pub(super) fn flush(&mut self, what: &str, name: &str) {
        self.line(&["flush ", what, " ip kube-proxy ", name]);
    }

    /// Appends a rule, given in parts that are written one after the other.
    pub(super) fn rule(&mut self, chain: &str, parts: &[&str]) {
        self.text.push_str("add rule ip kube-proxy ");
        self.text.push_str(chain);
        self.text.push(' ');
        self.line(parts);
        self.rules += 1;
    }

    /// Adds an element; `parts` are what stands between the braces.
    pub(super) fn element(&mut self, container: &str, parts: &[&str]) {
        self.text.push_str("add element ip kube-proxy ");
        self.text.push_str(container);
        self.text.push_str(" { ");
        for part in parts {
            self.text.push_str(part);
        }
        self.text.push_str(" }\n");
        self.rules += 1;
    }

    fn line(&mut self, parts: &[&str]) {
        for part in parts {
            self.text.push_str(part);
        }
        self.text.push('\n');
    }
}
