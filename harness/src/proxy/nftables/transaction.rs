// SPDX-License-Identifier: Apache-2.0
//! One input of `nft -f`: commands for the table `kube-proxy` of a family, which the kernel takes all or
//! none of. Written by hand instead of through `format!`, because 10,000 Services are 16 MB of it.

use crate::net::addresses::word_of_nft;
use crate::plan::IpFamily;

/// The table everything is in.
pub(super) const TABLE: &str = "kube-proxy";

/// Commands so far, and the rules and elements they add.
#[derive(Debug)]
pub(super) struct Transaction {
    text: String,
    rules: u64,
    /// Of nft's words, the one for the family of its table, ` ip kube-proxy ` or the other, and that for
    /// headers of packets.
    table: &'static str,
    pub(super) ip: &'static str,
}

/// The table of a family, as nft has it.
pub(super) fn table(family: IpFamily) -> &'static str {
    match family {
        IpFamily::Ipv4 => "ip kube-proxy",
        IpFamily::Ipv6 => "ip6 kube-proxy",
    }
}

impl Transaction {
    /// With room for `bytes` of text.
    pub(super) fn with_capacity(family: IpFamily, bytes: usize) -> Self {
        let ip = word_of_nft(family);
        Self { text: String::with_capacity(bytes), rules: 0, table: table(family), ip }
    }

    /// The text, and how many rules and elements it adds.
    pub(super) fn finish(self) -> (String, u64) {
        (self.text, self.rules)
    }

    /// Adds the table.
    pub(super) fn table(&mut self, comment: &str) {
        self.line(&["add table ", self.table, " { comment \"", comment, "\" ; }"]);
    }

    /// Adds and deletes a chain of which nothing but the name is known: afterwards it is not there,
    /// whatever was before, and no kernel's answer depends on that.
    pub(super) fn forget_chain(&mut self, name: &str) {
        self.line(&["add chain ", self.table, " ", name]);
        self.line(&["delete chain ", self.table, " ", name]);
    }

    /// Adds a chain at a hook and empties it.
    pub(super) fn base_chain(&mut self, name: &str, kind: &str, hook: &str, priority: &str) {
        let at = [" { type ", kind, " hook ", hook, " priority ", priority, " ; }"].concat();
        self.line(&["add chain ", self.table, " ", name, &at]);
        self.flush("chain", name);
    }

    /// Adds a chain that rules jump to and empties it.
    pub(super) fn chain(&mut self, name: &str) {
        self.line(&["add chain ", self.table, " ", name]);
        self.flush("chain", name);
    }

    /// The same with a comment.
    pub(super) fn commented_chain(&mut self, name: &str, comment: &str) {
        self.line(&["add chain ", self.table, " ", name, " { comment \"", comment, "\" ; }"]);
        self.flush("chain", name);
    }

    /// Adds a `set` or `map`; `properties` end in ` ;`.
    pub(super) fn container(&mut self, what: &str, name: &str, properties: &str) {
        self.line(&["add ", what, " ", self.table, " ", name, " { ", properties, " }"]);
    }

    /// Empties a chain, set or map.
    pub(super) fn flush(&mut self, what: &str, name: &str) {
        self.line(&["flush ", what, " ", self.table, " ", name]);
    }

    /// Appends a rule, given in parts that are written one after the other.
    pub(super) fn rule(&mut self, chain: &str, parts: &[&str]) {
        self.text.push_str("add rule ");
        self.text.push_str(self.table);
        self.text.push(' ');
        self.text.push_str(chain);
        self.text.push(' ');
        self.line(parts);
        self.rules += 1;
    }

    /// Adds an element; `parts` are what stands between the braces.
    pub(super) fn element(&mut self, container: &str, parts: &[&str]) {
        self.text.push_str("add element ");
        self.text.push_str(self.table);
        self.text.push(' ');
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
