// SPDX-License-Identifier: Apache-2.0
//! Waiting for objects: they are listed once and then watched, never polled.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api as Objects, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::KubeError;
use super::api::SILENCE;

/// Seconds that the server is asked to let one watch last; then it is begun again. Below the
/// client's patience with silence.
const WATCH_S: u32 = 20;

/// What came of a wait.
pub(super) enum Awaited<T, K> {
    /// It became so.
    Done(T),
    /// The deadline passed; the objects as they were last seen, by name.
    Late(BTreeMap<String, K>),
}

/// Which objects to look at.
#[derive(Clone, Debug, Default)]
pub(super) struct Which {
    /// Label selector.
    pub(super) labels: Option<String>,
    /// Field selector.
    pub(super) fields: Option<String>,
}

/// Looks at the objects until `look` gives a value, once at least. `subject` is what they are called
/// in errors.
pub(super) async fn until<K, T>(
    objects: &Objects<K>,
    which: &Which,
    subject: &str,
    deadline: Instant,
    mut look: impl FnMut(&BTreeMap<String, K>) -> Result<Option<T>, KubeError>,
) -> Result<Awaited<T, K>, KubeError>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let mut seen = BTreeMap::new();
    loop {
        let list = ListParams {
            label_selector: which.labels.clone(),
            field_selector: which.fields.clone(),
            ..ListParams::default()
        };
        let within = deadline.max(Instant::now() + Duration::from_secs(1));
        let listed = match timeout_at(within, objects.list(&list)).await {
            Ok(listed) => listed.map_err(KubeError::api("list", subject))?,
            Err(_) if seen.is_empty() => {
                return Err(KubeError::Silent {
                    op: "list",
                    subject: subject.to_owned(),
                    waited: SILENCE,
                });
            }
            Err(_) => return Ok(Awaited::Late(seen)),
        };
        let mut at = listed.metadata.resource_version.clone().unwrap_or_default();
        seen = listed.items.into_iter().map(|object| (object.name_any(), object)).collect();
        if let Some(value) = look(&seen)? {
            return Ok(Awaited::Done(value));
        }
        // Watches from where the last one ended, until the server has forgotten that place.
        'watches: loop {
            let watch = WatchParams {
                label_selector: which.labels.clone(),
                field_selector: which.fields.clone(),
                timeout: Some(WATCH_S),
                ..WatchParams::default()
            };
            let Ok(events) = timeout_at(deadline, objects.watch(&watch, &at)).await else {
                return Ok(Awaited::Late(seen));
            };
            let mut events = pin!(events.map_err(KubeError::api("watch", subject))?);
            loop {
                let Ok(event) = timeout_at(deadline, events.next()).await else {
                    return Ok(Awaited::Late(seen));
                };
                let Some(event) = event else { continue 'watches };
                match event.map_err(KubeError::api("watch", subject))? {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                        at = object.resource_version().unwrap_or(at);
                        seen.insert(object.name_any(), object);
                    }
                    WatchEvent::Deleted(object) => {
                        at = object.resource_version().unwrap_or(at);
                        seen.remove(&object.name_any());
                    }
                    WatchEvent::Bookmark(mark) => {
                        at = mark.metadata.resource_version;
                        continue;
                    }
                    // 410 Gone: the server keeps the past for five minutes only.
                    WatchEvent::Error(status) if status.code == 410 => break 'watches,
                    WatchEvent::Error(status) => {
                        return Err(KubeError::api("watch", subject)(kube::Error::Api(status)));
                    }
                }
                if let Some(value) = look(&seen)? {
                    return Ok(Awaited::Done(value));
                }
            }
        }
    }
}
