// SPDX-License-Identifier: Apache-2.0
//! The programs with the probes ([`crate::probe`]): a pod on each node that cases pass, of one privileged
//! DaemonSet.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::kube::{KubeError, PodSpec, Pods, Privileged, PullPolicy, RunningPod};
use crate::lab::LabError;
use crate::probe::protocol::{ABOUT, About, OFF, Reply};
use crate::probe::{SIGHTINGS_BYTES_MAX, Sightings, TOKEN};
use crate::{Cancel, Unavailable};

/// Name of the DaemonSet.
const NAME: &str = "probe";
/// Port at which a program is asked.
const PORT: u16 = 8082;
/// Times that something is asked.
const TRIES: u32 = 3;
/// How often, while pods are waited for, a stop is looked for and what the controller says.
const GLANCE: Duration = Duration::from_secs(3);

/// One program.
#[derive(Clone, Debug)]
pub(super) struct Watcher {
    /// Name of its node.
    pub(super) node: String,
    /// What it says of itself and its node.
    pub(super) about: About,
    pod: RunningPod,
    /// Word that its paths begin with.
    token: String,
}

/// Starts a program on each of the nodes, and waits until each has its probes loaded.
pub(super) async fn start(
    pods: &Pods,
    nodes: Vec<String>,
    (image, pull): (&str, PullPolicy),
    token: &str,
    deadline: Instant,
    cancel: &Cancel,
) -> Result<Vec<Watcher>, LabError> {
    let wanted = Privileged {
        pod: PodSpec {
            name: NAME.to_owned(),
            node: String::new(),
            image: image.to_owned(),
            pull,
            command: vec!["/probe".to_owned()],
            args: vec!["agent".to_owned(), "probe".to_owned(), format!("0.0.0.0:{PORT}")],
            env: vec![(TOKEN.to_owned(), token.to_owned())],
            secret_env: Vec::new(),
            ready_port: Some(PORT),
        },
        nodes,
    };
    pods.create_privileged(&wanted).await?;
    let running = loop {
        let until = deadline.min(Instant::now() + GLANCE);
        match pods.await_privileged(&wanted, until).await {
            Err(KubeError::Late { .. }) if cancel.requested() => return Err(LabError::Cancelled),
            Err(KubeError::Late { .. }) if Instant::now() < deadline => {
                pods.privileged_are_let_be(&wanted).await?;
            }
            outcome => break outcome?,
        }
    };
    let watchers = running.into_iter().map(|pod| async move {
        let (node, token) = (pod.node.clone(), token.to_owned());
        let mut watcher = Watcher { node, about: About::default(), pod, token };
        watcher.about = watcher.ask(pods, ABOUT, &()).await?;
        Ok::<_, LabError>(watcher)
    });
    try_join_all(watchers).await
}

impl Watcher {
    /// Asks it something that may be asked twice: answers are cut off at times ([`Pods::ask`]).
    pub(super) async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        pods: &Pods,
        word: &str,
        question: &Q,
    ) -> Result<A, LabError> {
        let path = format!("{}/{word}", self.token);
        let mut tries = 1;
        loop {
            match pods.ask::<_, Reply<A>>(&self.pod.name, PORT, &path, question).await {
                Err(KubeError::Port { .. }) if tries < TRIES => tries += 1,
                reply => return self.done(reply?),
            }
        }
    }

    /// Switches its probes off and hears what they saw; `taps` is how many it has.
    pub(super) async fn off(&self, pods: &Pods, taps: usize) -> Result<Sightings, LabError> {
        let path = format!("{}/{OFF}", self.token);
        let most = SIGHTINGS_BYTES_MAX;
        let answer = pods.ask_bytes(&self.pod.name, PORT, &path, Vec::new(), most).await?;
        let read = Sightings::read(&answer, taps);
        self.done(read.map_err(|error| self.wrong(&error.to_string()))?)
    }

    /// What it did; what it could not do, with the node's name.
    fn done<T>(&self, reply: Reply<T>) -> Result<T, LabError> {
        match reply {
            Reply::Done(answer) => Ok(answer),
            Reply::Failed(why) => Err(self.wrong(&why)),
            Reply::Unavailable(Unavailable { need, found, remedy }) => {
                let found = format!("{found}, on node {}", self.node);
                let remedy = format!("{remedy}, or without --probes");
                Err(Unavailable { need, found, remedy }.into())
            }
        }
    }

    fn wrong(&self, why: &str) -> LabError {
        LabError::Capture(format!("{why}, on node {}", self.node))
    }
}
