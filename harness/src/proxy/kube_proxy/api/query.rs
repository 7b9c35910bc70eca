// SPDX-License-Identifier: Apache-2.0
//! What a request asks for behind its `?`.

use std::time::Duration;

use serde_json::Value;

/// How long a watch lasts where the client does not say; servers choose half an hour and more.
const WATCH_DEFAULT: Duration = Duration::from_secs(1800);
/// How long it may last.
const WATCH_MAX: Duration = Duration::from_secs(6 * 3600);

/// A query that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// Whether changes are to be told, too.
    pub(super) watch: bool,
    /// Version from which on; `None` where all there is is to be told first.
    pub(super) above: Option<u64>,
    /// Whether a watch begins with all there is and says when that is over (KEP-3157).
    pub(super) initial_events: bool,
    /// When a watch ends.
    pub(super) lasts: Duration,
    /// Which objects.
    pub(super) selection: Selection,
}

/// Requirements on objects, all of which have to be met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    name: Option<String>,
    labels: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    Has(String),
    HasNot(String),
    Is(String, String),
    IsNot(String, String),
}

impl Query {
    /// Reads a query. What is not known is not refused: a list that is not cut into pieces is a valid
    /// answer to `limit`, and an object's version to `resourceVersionMatch`.
    ///
    /// # Errors
    /// A key's value is wrong, or a selector is of a kind that is not known: then an answer would have
    /// objects that were not asked for.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut query = Self {
            watch: false,
            above: None,
            initial_events: false,
            lasts: WATCH_DEFAULT,
            selection: Selection::default(),
        };
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value)?;
            let number = |value: &str| {
                value.parse::<u64>().map_err(|_unparsed| format!("{key}: `{value}` is no number"))
            };
            match key {
                "watch" => query.watch = is_true(&value),
                "sendInitialEvents" => query.initial_events = is_true(&value),
                "resourceVersion" if value.is_empty() => {}
                "resourceVersion" => query.above = Some(number(&value)?).filter(|&above| above > 0),
                "timeoutSeconds" => {
                    query.lasts = Duration::from_secs(number(&value)?).min(WATCH_MAX);
                }
                "labelSelector" => query.selection.labels = labels(&value)?,
                "fieldSelector" => query.selection.name = field(&value)?,
                _ => {}
            }
        }
        Ok(query)
    }
}

impl Selection {
    /// Whether an object meets all requirements.
    pub(super) fn takes(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let named = self.name.as_ref().is_none_or(|name| metadata["name"] == name.as_str());
        named && self.labels.iter().all(|requirement| requirement.is_met(&metadata["labels"]))
    }
}

impl Requirement {
    fn is_met(&self, labels: &Value) -> bool {
        let label = |key: &str| labels.get(key).and_then(Value::as_str);
        match self {
            Self::Has(key) => label(key).is_some(),
            Self::HasNot(key) => label(key).is_none(),
            Self::Is(key, value) => label(key) == Some(value),
            Self::IsNot(key, value) => label(key) != Some(value),
        }
    }
}

fn is_true(value: &str) -> bool {
    matches!(value, "true" | "1")
}

fn labels(text: &str) -> Result<Vec<Requirement>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(requirement).collect()
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let own = |text: &str| text.trim().to_owned();
    if text.contains([' ', '(', ')']) {
        return Err(format!("labelSelector: `{text}` is of a kind that is not known"));
    }
    Ok(if let Some(key) = text.strip_prefix('!') {
        Requirement::HasNot(own(key))
    } else if let Some((key, value)) = text.split_once("!=") {
        Requirement::IsNot(own(key), own(value))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        Requirement::Is(own(key), own(value))
    } else {
        Requirement::Has(own(text))
    })
}

fn field(text: &str) -> Result<Option<String>, String> {
    match text.split_once('=') {
        None if text.is_empty() => Ok(None),
        Some(("metadata.name", name)) => Ok(Some(name.trim_start_matches('=').to_owned())),
        _ => Err(format!("fieldSelector: `{text}` is of a kind that is not known")),
    }
}

/// Takes the escapes out of a value (RFC 3986, section 2.1; `+` is a space, as forms have it).
fn decoded(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is not escaped as it should be");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = digit().zip(digit()).ok_or_else(wrong)?;
                u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte")
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_not_text| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_kube_proxy_asks_for_is_understood() {
        let text = "labelSelector=%21service.kubernetes.io%2Fheadless%2C%21service.kubernetes.io%2F\
                    service-proxy-name&limit=500&resourceVersion=0";
        let query = Query::parse(text).unwrap();
        assert_eq!((query.watch, query.above), (false, None));
        let labelled = |labels| json!({ "metadata": { "name": "a", "labels": labels } });
        assert!(query.selection.takes(&json!({ "metadata": { "name": "a" } })));
        assert!(query.selection.takes(&labelled(json!({ "run": "x" }))));
        let other = json!({ "service.kubernetes.io/service-proxy-name": "other" });
        assert!(!query.selection.takes(&labelled(other)));

        let text = "allowWatchBookmarks=true&fieldSelector=metadata.name%3Dnode1&resourceVersion=7&\
                    timeoutSeconds=575&watch=true";
        let query = Query::parse(text).unwrap();
        assert_eq!((query.watch, query.above, query.initial_events), (true, Some(7), false));
        assert_eq!(query.lasts, Duration::from_secs(575));
        assert!(query.selection.takes(&json!({ "metadata": { "name": "node1" } })));
        assert!(!query.selection.takes(&json!({ "metadata": { "name": "node2" } })));
    }

    #[test]
    fn labels_are_required_present_absent_equal_and_different() {
        let object = json!({ "metadata": { "name": "a", "labels": { "x": "1" } } });
        for (selector, taken) in [
            ("x", true),
            ("!x", false),
            ("x=1", true),
            ("x==1", true),
            ("x=2", false),
            ("x!=2", true),
            ("x,!y", true),
            ("x,y", false),
        ] {
            let query = Query::parse(&format!("labelSelector={selector}")).unwrap();
            assert_eq!(query.selection.takes(&object), taken, "{selector}");
        }
    }

    #[test]
    fn what_would_be_answered_wrongly_is_refused() {
        for text in [
            "labelSelector=x+in+(a)",
            "fieldSelector=spec.nodeName%3Dnode1",
            "resourceVersion=new",
            "timeoutSeconds=-1",
            "labelSelector=%2",
            "labelSelector=%ff",
        ] {
            assert!(Query::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_query_makes_it_panic(text in "\\PC{0,80}") {
            let _ = Query::parse(&text);
        }
    }
}
