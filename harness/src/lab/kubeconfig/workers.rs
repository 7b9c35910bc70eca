// SPDX-License-Identifier: Apache-2.0
//! The pods that load comes from: a Job each, on the node that is said, because that node is part of the
//! measurement, and without a second try, because a pod in place of one that failed would be another.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use workloads::clock::unix_ns;
use workloads::protocol::{Appointment, Kept, LoadCommand, LoadSpec, Sources, WorkerClock};

use crate::Cancel;
use crate::kube::{Api, Jobs, KubeError, Node, PodSpec, Pods, PullPolicy, RunningPod};
use crate::lab::LabError;

/// Port at which a worker is asked.
const PORT: u16 = 8081;
/// First source port of load.
pub(super) const PORT_FIRST: u16 = 1024;
/// From the question to the start: the way through the API server, twice over, and the connections
/// of a keepalive phase.
pub(super) const LEAD: Duration = Duration::from_millis(1_000);
/// What a worker may take beyond the time it was told to work.
pub(super) const SLACK: Duration = Duration::from_secs(20);
/// How often a stop is looked for while workers work.
const GLANCE: Duration = Duration::from_millis(100);

/// One worker.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    /// Name of its Job.
    pub(super) job: String,
    pub(super) pod: RunningPod,
    /// Word that its paths begin with.
    token: String,
    /// First source port that it has not used; ports are used once in its pod's life.
    next_port: u32,
    /// Its clock less ours, nanoseconds, and how far that may be from the truth.
    pub(super) clock_ns: (i64, u64),
}

impl Worker {
    /// Source ports left.
    pub(super) fn ports_left(&self) -> u32 {
        (u32::from(u16::MAX) + 1).saturating_sub(self.next_port)
    }

    fn sources(&self) -> Sources {
        Sources {
            addresses: vec![self.pod.address],
            port_first: u16::try_from(self.next_port).unwrap_or(u16::MAX),
            port_last: u16::MAX,
        }
    }
}

/// What workers are to do: the same load but for each one's share of it.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// The load; its sources and arrival are each worker's own.
    pub(super) specs: Vec<LoadSpec>,
    pub(super) command: LoadCommand,
    /// How long that may take.
    pub(super) duration: Duration,
}

/// Starts a worker on each of the nodes and waits until they listen. `first` numbers them.
pub(super) async fn start(
    (jobs, pods): (&Jobs, &Pods),
    nodes: &[Node],
    first: usize,
    image: &str,
    pull: PullPolicy,
    deadline: Instant,
) -> Result<Vec<Worker>, KubeError> {
    let tokens: Vec<String> = nodes.iter().map(|_| token()).collect::<Result<_, _>>()?;
    let spec = |(index, (node, token)): (usize, (&Node, &String))| PodSpec {
        name: format!("worker-{}", first + index),
        node: node.name.clone(),
        image: image.to_owned(),
        pull,
        command: vec!["/load".to_owned()],
        args: vec!["--worker".to_owned(), format!("0.0.0.0:{PORT}")],
        env: vec![("NIC2POD_TOKEN".to_owned(), token.clone())],
        secret_env: Vec::new(),
        ready_port: Some(PORT),
    };
    let specs: Vec<PodSpec> = nodes.iter().zip(&tokens).enumerate().map(spec).collect();
    let running = jobs.start(&specs, deadline).await?;
    let jobs = specs.into_iter().map(|spec| spec.name);
    let workers = running.into_iter().zip(tokens).zip(jobs).map(|((pod, token), job)| async move {
        let clock_ns = clock(pods, &pod, &token).await?;
        Ok(Worker { job, pod, token, next_port: PORT_FIRST.into(), clock_ns })
    });
    try_join_all(workers).await
}

/// A word that cannot be guessed.
pub(super) fn token() -> Result<String, KubeError> {
    let mut bytes = [0; 16];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_failed| KubeError::Value {
        subject: "a token".to_owned(),
        problem: "the system gives no random bytes".to_owned(),
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// How far a worker's clock is from ours, from the quickest of a few questions (RFC 5905, section 8:
/// it lies within half of the way there and back).
async fn clock(pods: &Pods, pod: &RunningPod, token: &str) -> Result<(i64, u64), KubeError> {
    let mut best = (0, u64::MAX);
    for _ in 0..5 {
        let before_ns = unix_ns();
        let path = format!("{token}/clock");
        let clock: WorkerClock = pods.ask(&pod.name, PORT, &path, &()).await?;
        let way_ns = unix_ns().saturating_sub(before_ns);
        let middle_ns = before_ns + way_ns / 2;
        if way_ns / 2 < best.1 {
            // Both are times since the epoch: the difference of two such fits.
            best = (clock.unix_ns.wrapping_sub(middle_ns) as i64, way_ns / 2);
        }
    }
    Ok(best)
}

/// Has all workers do their part of a task, started at one time, and hears them out.
pub(super) async fn keep(
    api: Api,
    pods: Pods,
    workers: Vec<Worker>,
    task: Task,
    cancel: Cancel,
) -> Result<Vec<Kept>, LabError> {
    let whole = LEAD + task.duration + SLACK;
    let pods = pods.through(&api.patient(whole)?);
    let start_unix_ns = unix_ns() + LEAD.as_nanos() as u64;
    let asked = workers.iter().zip(task.specs).map(|(worker, spec)| {
        let spec = LoadSpec { sources: worker.sources(), ..spec };
        let appointment = Appointment { spec, command: task.command.clone(), start_unix_ns };
        let (pods, path) = (&pods, format!("{}/run", worker.token));
        async move { pods.ask::<_, Kept>(&worker.pod.name, PORT, &path, &appointment).await }
    });
    let late = tokio::time::sleep(whole);
    let stop = async {
        let mut glances = tokio::time::interval(GLANCE);
        while !cancel.requested() {
            glances.tick().await;
        }
    };
    tokio::select! {
        kept = try_join_all(asked) => Ok(kept?),
        () = late => Err(KubeError::Silent {
            op: "hear from",
            subject: "all workers".to_owned(),
            waited: whole,
        }
        .into()),
        () = stop => Err(LabError::Cancelled),
    }
}

/// Takes note of the source ports that workers have used.
pub(super) fn spend(workers: &mut [Worker], kept: &[Kept]) {
    for (worker, kept) in workers.iter_mut().zip(kept) {
        let spent = u32::try_from(kept.report.tuples_spent).unwrap_or(u32::MAX);
        worker.next_port = worker.next_port.saturating_add(spent);
    }
}
