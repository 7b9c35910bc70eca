// SPDX-License-Identifier: Apache-2.0
//! Takes a page apart into its tags, strictly: anything a browser would have to mend is an error.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Elements without content, HTML living standard 13.1.2.
const VOID: [&str; 3] = ["meta", "link", "br"];

/// Names of the elements and attributes a page uses.
#[derive(Debug, Default)]
pub(crate) struct Used {
    pub(crate) elements: BTreeSet<String>,
    pub(crate) attributes: BTreeSet<String>,
    pub(crate) ids: BTreeSet<String>,
    /// Values of href.
    pub(crate) links: BTreeSet<String>,
    /// Texts of scripts, data included, in the page's order.
    pub(crate) scripts: Vec<String>,
}

impl Used {
    /// Whether the page has one script that runs, the one its policy names by hash, and the others are
    /// figures.
    pub(crate) fn runs_only_its_own(&self, page: &str) -> bool {
        let Some((own, data)) = self.scripts.split_last() else { return false };
        let hash = STANDARD.encode(Sha256::digest(own.as_bytes()));
        page.contains(&format!("script-src 'sha256-{hash}';"))
            && data.iter().all(|text| serde_json::from_str::<Value>(text).is_ok())
            && page.matches("<script type=\"application/json\">").count() == data.len()
    }
}

/// Checks that elements nest and attributes are quoted, and says which there are.
pub(crate) fn read(page: &str) -> Result<Used, String> {
    let mut used = Used::default();
    let mut open: Vec<String> = Vec::new();
    let mut rest = page.strip_prefix("<!DOCTYPE html>").ok_or("no doctype")?;
    while let Some(start) = rest.find('<') {
        let near = |text: &str| text.chars().take(60).collect::<String>();
        rest = &rest[start + 1..];
        let tag = rest;
        if let Some(closing) = rest.strip_prefix('/') {
            let (name, after) = closing.split_once('>').ok_or("a closing tag that does not end")?;
            match open.pop() {
                Some(opened) if opened == name => rest = after,
                opened => return Err(format!("</{name}> closes {opened:?}")),
            }
            continue;
        }
        let end =
            rest.find(|c: char| !c.is_ascii_alphanumeric()).ok_or("a tag that does not end")?;
        if end == 0 {
            return Err(format!("a bare < before {:?}", near(tag)));
        }
        let name = rest[..end].to_owned();
        rest =
            attributes(&rest[end..], &mut used).map_err(|e| format!("{e} in {:?}", near(tag)))?;
        used.elements.insert(name.clone());
        if let Some(after) = rest.strip_prefix("/>") {
            rest = after;
        } else {
            rest = rest.strip_prefix('>').ok_or_else(|| format!("no > after {:?}", near(tag)))?;
            if name == "style" || name == "script" {
                let end = format!("</{name}>");
                let text = rest.find(&end).ok_or_else(|| format!("a {name} that does not end"))?;
                used.scripts.extend((name == "script").then(|| rest[..text].to_owned()));
                rest = &rest[text..];
            }
            if !VOID.contains(&name.as_str()) {
                open.push(name);
            }
        }
    }
    if open.is_empty() { Ok(used) } else { Err(format!("never closed: {open:?}")) }
}

fn attributes<'a>(mut rest: &'a str, used: &mut Used) -> Result<&'a str, String> {
    loop {
        rest = rest.trim_start();
        if rest.starts_with('>') || rest.starts_with("/>") {
            return Ok(rest);
        }
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-:".contains(c)));
        let name = match end {
            Some(end) if end > 0 => &rest[..end],
            _ => return Err("an attribute without a name".to_owned()),
        };
        rest = &rest[name.len()..];
        used.attributes.insert(name.to_owned());
        if let Some(value) = rest.strip_prefix("=\"") {
            let (value, after) = value.split_once('"').ok_or("a value that does not end")?;
            match name {
                "id" if !used.ids.insert(value.to_owned()) => {
                    return Err(format!("id {value} twice"));
                }
                "href" => drop(used.links.insert(value.to_owned())),
                _ => {}
            }
            rest = after;
        }
    }
}

#[test]
fn the_reader_refuses_what_a_browser_would_mend() {
    let read = |body: &str| read(&format!("<!DOCTYPE html>{body}"));
    assert!(read("<p>a<br>b</p><rect x=\"1\"/>").is_ok());
    for broken in
        ["<p>", "<p></div>", "a < b", "<p class=x></p>", "<p id=\"a\"></p><p id=\"a\"></p>"]
    {
        assert!(read(broken).is_err(), "{broken}");
    }
}
