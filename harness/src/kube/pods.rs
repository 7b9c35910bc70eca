// SPDX-License-Identifier: Apache-2.0
//! The pods of a namespace: made together, awaited together.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use futures_util::{AsyncReadExt, StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DeleteParams, ListParams, LogParams, PostParams};
use kube::{Api as Objects, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::namespace::gone_is_fine;
use super::pod::{Standing, ended, standing};
use super::watch::{Awaited, Which, until};
use super::{Api, KubeError, Namespace, PodSpec, RunningPod};
use crate::capture::in_words;

/// Requests under way at once.
const IN_FLIGHT: usize = 16;
/// Events read to explain why pods are late.
const EVENTS_MAX: u32 = 500;
/// Longest log that is read, bytes.
const LOG_MAX: i64 = 16 << 20;
/// Longest answer of a program in a pod, bytes: the samples of a worker, and the marks of a server.
const ANSWER_MAX: usize = 64 << 20;

/// The pods of a namespace.
#[derive(Clone)]
pub struct Pods {
    pub(super) api: Api,
    pub(super) namespace: Namespace,
    pub(super) objects: Objects<Pod>,
}

impl std::fmt::Debug for Pods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pods").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Pods {
    /// Those of `namespace`.
    pub fn new(api: &Api, namespace: &Namespace) -> Self {
        let objects = Objects::namespaced(api.client(), &namespace.name);
        Self { api: api.clone(), namespace: namespace.clone(), objects }
    }

    /// The same pods by another way to the same server.
    #[must_use]
    pub fn through(&self, api: &Api) -> Self {
        Self::new(api, &self.namespace)
    }

    /// Makes pods and does not wait for them.
    ///
    /// # Errors
    /// The API server refuses one; others may have been made.
    pub async fn create(&self, specs: &[PodSpec]) -> Result<(), KubeError> {
        let labels = Namespace::labels(&self.namespace.run);
        // A namespace that is a moment old has no service account yet, and pods are refused without.
        self.await_service_account().await?;
        stream::iter(specs)
            .map(|spec| {
                let object = spec.object(labels.clone());
                async move {
                    let created = self.objects.create(&PostParams::default(), &object).await;
                    created.map_err(KubeError::api("create", format!("pod {}", spec.name)))
                }
            })
            .buffer_unordered(IN_FLIGHT)
            .try_for_each(|_| async { Ok(()) })
            .await
    }

    pub(super) async fn await_service_account(&self) -> Result<(), KubeError> {
        use k8s_openapi::api::core::v1::ServiceAccount;
        let accounts: Objects<ServiceAccount> =
            Objects::namespaced(self.api.client(), &self.namespace.name);
        let which = Which { fields: Some("metadata.name=default".to_owned()), labels: None };
        let there = |seen: &BTreeMap<String, ServiceAccount>| {
            Ok(seen.contains_key("default").then_some(()))
        };
        let begun = Instant::now();
        let deadline = begun + super::api::SILENCE;
        let subject = format!("the service accounts of namespace {}", self.namespace.name);
        match until(&accounts, &which, &subject, deadline.into(), there).await? {
            Awaited::Done(()) => Ok(()),
            Awaited::Late(_) => Err(KubeError::Late {
                subject: format!("service account `default` of namespace {}", self.namespace.name),
                waited: begun.elapsed(),
                found: "the controller manager has not made it".to_owned(),
            }),
        }
    }

    /// Waits until the pods of these names run and are ready; returns them in that order.
    ///
    /// # Errors
    /// One ended or can never run, or not all are ready at the deadline: each one's own reason.
    pub async fn await_ready(
        &self,
        names: &[&str],
        deadline: Instant,
    ) -> Result<Vec<RunningPod>, KubeError> {
        self.await_ready_by(By::Name, names, deadline).await
    }

    /// The same for the pods of Jobs of these names, one each.
    pub(super) async fn await_ready_of_jobs(
        &self,
        names: &[&str],
        deadline: Instant,
    ) -> Result<Vec<RunningPod>, KubeError> {
        self.await_ready_by(By::Job, names, deadline).await
    }

    async fn await_ready_by(
        &self,
        by: By,
        names: &[&str],
        deadline: Instant,
    ) -> Result<Vec<RunningPod>, KubeError> {
        let begun = Instant::now();
        let subject = format!("the pods of namespace {}", self.namespace.name);
        let look = |seen: &BTreeMap<String, Pod>| {
            let mut ready = Vec::with_capacity(names.len());
            for &name in names {
                match by.find(seen, name).map(standing) {
                    Some(Standing::Ready(pod)) => ready.push(pod),
                    Some(Standing::Over(found)) => {
                        return Err(KubeError::Never {
                            subject: format!("pod {name} ready"),
                            found,
                        });
                    }
                    Some(Standing::Waiting(_)) | None => {}
                }
            }
            Ok((ready.len() == names.len()).then_some(ready))
        };
        match until(&self.objects, &Which::default(), &subject, deadline.into(), look).await? {
            Awaited::Done(ready) => Ok(ready),
            Awaited::Late(seen) => {
                let events = self.last_events(by).await.unwrap_or_default();
                let missing = names.iter().filter_map(|&name| {
                    let why = match by.find(&seen, name).map(standing) {
                        Some(Standing::Ready(_)) => return None,
                        Some(Standing::Waiting(why) | Standing::Over(why)) => why,
                        None => "it is not there".to_owned(),
                    };
                    let event = events.get(name).map(|event| format!(" ({event})"));
                    Some(format!("{name}: {why}{}", event.unwrap_or_default()))
                });
                Err(KubeError::Late {
                    subject: "all pods ready".to_owned(),
                    waited: begun.elapsed(),
                    found: missing.collect::<Vec<_>>().join("; "),
                })
            }
        }
    }

    /// Waits until the programs of all pods of these names have ended.
    ///
    /// # Errors
    /// One ended otherwise than with 0, or is gone, or some still run at the deadline.
    pub async fn await_ended(&self, names: &[&str], deadline: Instant) -> Result<(), KubeError> {
        let begun = Instant::now();
        let subject = format!("the pods of namespace {}", self.namespace.name);
        let open = |seen: &BTreeMap<String, Pod>| -> Result<Vec<String>, KubeError> {
            let mut open = Vec::new();
            for &name in names {
                let never = |found: String| KubeError::Never {
                    subject: format!("the end of pod {name}"),
                    found,
                };
                let pod = seen.get(name).ok_or_else(|| never("it is gone".to_owned()))?;
                let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                match phase {
                    Some("Succeeded") => {}
                    Some("Failed") => return Err(never(why_failed(pod))),
                    _ => open.push(name.to_owned()),
                }
            }
            Ok(open)
        };
        let look = |seen: &BTreeMap<String, Pod>| Ok(open(seen)?.is_empty().then_some(()));
        match until(&self.objects, &Which::default(), &subject, deadline.into(), look).await? {
            Awaited::Done(()) => Ok(()),
            Awaited::Late(seen) => Err(KubeError::Late {
                subject: "the end of all pods".to_owned(),
                waited: begun.elapsed(),
                found: format!("{} still run", open(&seen)?.join(", ")),
            }),
        }
    }

    /// Deletes the pods of these names at once and waits until they are gone, and with them their
    /// addresses.
    ///
    /// # Errors
    /// The API server refuses, or some are still there at the deadline.
    pub async fn delete(&self, names: &[&str], deadline: Instant) -> Result<(), KubeError> {
        let begun = Instant::now();
        let at_once = DeleteParams::default().grace_period(0);
        for name in names {
            let deleted = self.objects.delete(name, &at_once).await;
            gone_is_fine(deleted).map_err(KubeError::api("delete", format!("pod {name}")))?;
        }
        let left = |seen: &BTreeMap<String, Pod>| {
            names.iter().filter(|&&name| seen.contains_key(name)).copied().collect::<Vec<_>>()
        };
        let look = |seen: &BTreeMap<String, Pod>| Ok(left(seen).is_empty().then_some(()));
        let subject = format!("the pods of namespace {}", self.namespace.name);
        match until(&self.objects, &Which::default(), &subject, deadline.into(), look).await? {
            Awaited::Done(()) => Ok(()),
            Awaited::Late(seen) => Err(KubeError::Late {
                subject: "the pods gone".to_owned(),
                waited: begun.elapsed(),
                found: format!("{} are still there", left(&seen).join(", ")),
            }),
        }
    }

    /// What a pod has written so far, at most 16 MiB from the start.
    ///
    /// # Errors
    /// The API server, or the node's kubelet through it, refuses.
    pub async fn log(&self, name: &str) -> Result<String, KubeError> {
        let params = LogParams { limit_bytes: Some(LOG_MAX), ..LogParams::default() };
        let log = self.objects.logs(name, &params).await;
        log.map_err(KubeError::api("read", format!("the log of pod {name}")))
    }

    /// Asks the program in a pod: a POST of `question` to a path at one of its ports, by way of the API
    /// server; where there is nothing to say (`()`), without a body. Wants the right to `create` at
    /// `pods/proxy`.
    ///
    /// An answer that comes while the API server still looks for the end of the question's body may be
    /// cut off ([`KubeError::Port`]): Go's server closes what it has not read once it begins to answer, and
    /// its client takes that for a broken connection (`net/http`, `transferWriter.writeBody`). A question
    /// without a body has no such end.
    ///
    /// # Errors
    /// The API server refuses or cannot reach the pod, or the program's answer is not a success or not
    /// of that type.
    pub async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        name: &str,
        port: u16,
        path: &str,
        question: &Q,
    ) -> Result<A, KubeError> {
        let question = serde_json::to_vec(question).map_err(|error| KubeError::Value {
            subject: format!("a question to pod {name}"),
            problem: error.to_string(),
        })?;
        let question = if question == b"null" { Vec::new() } else { question };
        let answer = self.ask_bytes(name, port, path, question, ANSWER_MAX).await?;
        serde_json::from_slice(&answer).map_err(|error| KubeError::Answer {
            subject: format!("the answer of pod {name}"),
            problem: error.to_string(),
        })
    }

    /// The same with bytes, of which the answer has `most` at most.
    ///
    /// # Errors
    /// As [`Pods::ask`], or the answer is longer.
    pub async fn ask_bytes(
        &self,
        name: &str,
        port: u16,
        path: &str,
        question: Vec<u8>,
        most: usize,
    ) -> Result<Vec<u8>, KubeError> {
        let namespace = &self.namespace.name;
        let uri = format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/{path}");
        let request = hyper::Request::post(uri)
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(question)
            .map_err(|error| KubeError::Value {
                subject: format!("a question to pod {name}"),
                problem: error.to_string(),
            })?;
        let failed = KubeError::api("ask", format!("pod {name}"));
        let stream = self.api.client().request_stream(request).await.map_err(failed)?;
        let mut answer = Vec::new();
        let read = stream.take(most as u64 + 1).read_to_end(&mut answer).await;
        read.map_err(|error| KubeError::Port {
            subject: format!("pod {name}"),
            source: io::Error::other(in_words(&error)),
        })?;
        if answer.len() > most {
            return Err(KubeError::Answer {
                subject: format!("the answer of pod {name}"),
                problem: format!("it is longer than {most} bytes"),
            });
        }
        Ok(answer)
    }

    /// The last event of every pod, or of every Job.
    async fn last_events(&self, by: By) -> Result<BTreeMap<String, String>, KubeError> {
        let events: Objects<Event> = Objects::namespaced(self.api.client(), &self.namespace.name);
        let of_pods = ListParams::default().fields(by.selector()).limit(EVENTS_MAX);
        let listed = events.list(&of_pods).await;
        let mut listed = listed
            .map_err(KubeError::api("list", format!("the events of {}", self.namespace.name)))?
            .items;
        listed.sort_by_key(|event| event.metadata.creation_timestamp.as_ref().map(|time| time.0));
        let said = |event: Event| {
            let (reason, message) = (event.reason?, event.message?);
            Some((event.involved_object.name?, format!("{reason}: {message}")))
        };
        Ok(listed.into_iter().filter_map(said).collect())
    }
}

/// What pods are known by.
#[derive(Clone, Copy, Debug)]
enum By {
    /// Their own names.
    Name,
    /// The names of their Jobs.
    Job,
}

impl By {
    fn find<'a>(self, seen: &'a BTreeMap<String, Pod>, name: &str) -> Option<&'a Pod> {
        // The label that a Job's controller has given its pods since there have been Jobs.
        let of_job = |pod: &&Pod| pod.labels().get("job-name").is_some_and(|job| job == name);
        match self {
            Self::Name => seen.get(name),
            Self::Job => seen.values().find(of_job),
        }
    }

    fn selector(self) -> &'static str {
        match self {
            Self::Name => "involvedObject.kind=Pod",
            Self::Job => "involvedObject.kind=Job",
        }
    }
}

fn why_failed(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let container = status
        .and_then(|status| status.container_statuses.as_deref())
        .and_then(<[_]>::first)
        .and_then(ended);
    container.unwrap_or_else(|| {
        let message = status.and_then(|status| status.message.clone());
        message.unwrap_or_else(|| format!("pod {} failed without a word", pod.name_any()))
    })
}
