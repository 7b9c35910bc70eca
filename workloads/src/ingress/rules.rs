// SPDX-License-Identifier: Apache-2.0
//! Which backends a request is for: its host, then the longest path that fits
//! (networking.k8s.io/v1 Ingress, pathType `Prefix`).

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;

use crate::protocol::IngressRule;

/// Rules at most: ten times what is measured.
const RULES_MAX: usize = 100_000;

/// All rules, by host.
#[derive(Debug, Default)]
pub(super) struct Rules {
    by_host: HashMap<String, Vec<Rule>>,
}

/// One rule, and whose turn it is.
#[derive(Debug)]
pub(super) struct Rule {
    /// Without the slashes at its end: empty fits all.
    path: String,
    backends: Vec<SocketAddr>,
    next: Cell<usize>,
}

impl Rules {
    /// Lays rules out; fails with what is wrong with one.
    pub(super) fn new(rules: &[IngressRule]) -> Result<Self, String> {
        if rules.len() > RULES_MAX {
            return Err(format!("{} rules are more than {RULES_MAX}", rules.len()));
        }
        let mut by_host: HashMap<String, Vec<Rule>> = HashMap::with_capacity(rules.len());
        for IngressRule { host, path, backends } in rules {
            if backends.is_empty() {
                return Err(format!("the rule of {host}{path} has no backends"));
            }
            let path = path.trim_end_matches('/').to_owned();
            let rule = Rule { path, backends: backends.clone(), next: Cell::new(0) };
            by_host.entry(host.to_ascii_lowercase()).or_default().push(rule);
        }
        for rules in by_host.values_mut() {
            rules.sort_by_key(|rule| std::cmp::Reverse(rule.path.len()));
        }
        Ok(Self { by_host })
    }

    /// The rule of a request, its host with or without a port.
    pub(super) fn find(&self, host: &str, path: &str) -> Option<&Rule> {
        let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
        let rules = match self.by_host.get(bare) {
            Some(rules) => rules,
            None => self.by_host.get(&bare.to_ascii_lowercase())?,
        };
        rules.iter().find(|rule| {
            let rest = path.strip_prefix(rule.path.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

impl Rule {
    /// Its backends, each once, beginning with the one whose turn it is.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = SocketAddr> + use<'_> {
        let first = self.next.get();
        self.next.set((first + 1) % self.backends.len());
        let (before, from) = self.backends.split_at(first);
        from.iter().chain(before).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(host: &str, path: &str, last: u8) -> IngressRule {
        let backends = vec![SocketAddr::new([10, 96, 0, last].into(), 80)];
        IngressRule { host: host.to_owned(), path: path.to_owned(), backends }
    }

    fn last_octet(backend: SocketAddr) -> u8 {
        let SocketAddr::V4(backend) = backend else { panic!("{backend}") };
        backend.ip().octets()[3]
    }

    fn chosen(rules: &Rules, host: &str, path: &str) -> Option<u8> {
        let backend = rules.find(host, path)?.in_turn().next().unwrap();
        Some(last_octet(backend))
    }

    #[test]
    fn the_longest_path_by_elements_counts_and_hosts_have_no_case_or_port() {
        let rules =
            [rule("web.example", "/", 1), rule("web.example", "/a/", 2), rule("b", "/x", 3)];
        let rules = Rules::new(&rules).unwrap();
        for (host, path, backend) in [
            ("web.example", "/", Some(1)),
            ("web.example", "/ab", Some(1)),
            ("web.example", "/a", Some(2)),
            ("WEB.example:8080", "/a/b", Some(2)),
            ("b", "/x", Some(3)),
            ("b", "/", None),
            ("c", "/", None),
        ] {
            assert_eq!(chosen(&rules, host, path), backend, "{host}{path}");
        }
    }

    #[test]
    fn backends_take_turns_and_each_is_there_to_be_tried() {
        let backends: Vec<_> =
            (1..4).map(|last| SocketAddr::new([10, 0, 0, last].into(), 80)).collect();
        let rules = [IngressRule { backends, ..rule("web", "/", 0) }];
        let rules = Rules::new(&rules).unwrap();
        let turns = || -> Vec<u8> {
            let rule = rules.find("web", "/").unwrap();
            rule.in_turn().map(last_octet).collect()
        };
        assert_eq!([turns(), turns(), turns(), turns()].map(|turn| turn[0]), [1, 2, 3, 1]);
        assert_eq!(turns(), [2, 3, 1]);
    }

    #[test]
    fn a_rule_without_backends_is_refused() {
        let rules = [IngressRule { backends: Vec::new(), ..rule("web", "/", 1) }];
        assert_eq!(Rules::new(&rules).unwrap_err(), "the rule of web/ has no backends");
    }

    proptest! {
        #[test]
        fn no_host_or_path_makes_it_panic(host in ".*", path in ".*") {
            let rules = Rules::new(&[rule("web", "/a", 1)]).unwrap();
            rules.find(&host, &path);
        }
    }
}
