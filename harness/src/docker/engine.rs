// SPDX-License-Identifier: Apache-2.0
//! Docker's Engine: questions and orders, each answered in a bounded time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::{
    ImportImageOptions, ListContainersOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptions,
};
use bollard::{ClientVersion, Docker};
use futures_util::StreamExt;
use tokio::runtime::Runtime;

use super::error::{self, DockerError};
use super::exec::{self, Executed, Failure};
use super::{Container, socket};
use crate::Unavailable;
use crate::net::Cidr;

/// How long the Engine may take for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to load an image.
const LOAD_PATIENCE: Duration = Duration::from_secs(300);
/// How long it may take to say its version, before it is called dead.
const GREETING_PATIENCE: Duration = Duration::from_secs(10);
/// Most that is kept of a log's end, bytes.
const LOG_LIMIT: usize = 64 * 1024;
/// Oldest interface that is spoken: Engine 20.10's, the oldest one this is tested with.
const OLDEST: (usize, usize) = (1, 41);

/// A connection to the Engine. Copies share it.
///
/// Its methods wait; called on a thread of a tokio runtime they panic.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    docker: Docker,
    version: String,
    socket: PathBuf,
    runtime: Runtime,
}

impl Engine {
    /// Connects to the Engine at `DOCKER_HOST`, or at `/var/run/docker.sock`.
    ///
    /// # Errors
    /// Nobody listens there, the process may not, or the Engine is too old.
    pub fn connect() -> Result<Self, Unavailable> {
        Self::connect_at(&socket::path()?)
    }

    /// Connects to the Engine at a Unix socket.
    ///
    /// # Errors
    /// As [`Engine::connect`].
    pub fn connect_at(socket: &Path) -> Result<Self, Unavailable> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("docker")
            .enable_all()
            .build()
            .map_err(|error| {
                Unavailable::new("a thread for Docker", error.to_string(), "ulimit -u")
            })?;
        let path = socket.to_string_lossy();
        let docker =
            Docker::connect_with_unix(&path, PATIENCE.as_secs(), bollard::API_DEFAULT_VERSION)
                .map_err(|error| unreachable(socket, &error))?;
        let (docker, version) = runtime
            .block_on(async {
                let greet = async {
                    let docker = docker.negotiate_version().await?;
                    let version = docker.version().await?.version.unwrap_or_default();
                    Ok((docker, version))
                };
                let greeted = tokio::time::timeout(GREETING_PATIENCE, greet).await;
                greeted.unwrap_or(Err(Error::RequestTimeoutError))
            })
            .map_err(|error| unreachable(socket, &error))?;
        young_enough(&docker.client_version(), &version)?;
        Ok(Self(Arc::new(Inner { docker, version, socket: socket.to_owned(), runtime })))
    }

    /// The Engine's version, for example `20.10.24`.
    pub fn version(&self) -> &str {
        &self.0.version
    }

    /// Socket it listens at.
    pub fn socket(&self) -> &Path {
        &self.0.socket
    }

    /// One container by name or id.
    ///
    /// # Errors
    /// There is none ([`DockerError::is_not_found`]), or the Engine does not answer.
    pub fn inspect(&self, name: &str) -> Result<Container, DockerError> {
        const OP: &str = "inspect container";
        let answer = self.ask(OP, name, self.0.docker.inspect_container(name, None))?;
        let missing = || DockerError::Incomplete { op: OP, subject: name.to_owned(), what: "id" };
        Container::from_answer(answer).ok_or_else(missing)
    }

    /// Containers with a label, `key` or `key=value`, whether they run or not, sorted by name.
    ///
    /// # Errors
    /// The Engine does not answer.
    pub fn by_label(&self, label: &str) -> Result<Vec<Container>, DockerError> {
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let list = self.0.docker.list_containers(Some(options));
        let mut found = Vec::new();
        for summary in self.ask("list containers labelled", label, list)? {
            match self.inspect(&summary.id.unwrap_or_default()) {
                Ok(container) => found.push(container),
                // It went meanwhile.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Removes a container with its unnamed volumes; one that runs only if `force` says so. That
    /// there is none any more is no error.
    ///
    /// # Errors
    /// The Engine refuses.
    pub fn remove(&self, id: &str, force: bool) -> Result<(), DockerError> {
        const OP: &str = "remove container";
        let options = RemoveContainerOptionsBuilder::new().v(true).force(force).build();
        match self.ask(OP, id, self.0.docker.remove_container(id, Some(options))) {
            // 409: somebody else is removing it.
            Err(DockerError::Refused { source, .. })
                if error::status(&source) == Some(404)
                    || (error::status(&source) == Some(409)
                        && source.to_string().contains("already in progress")) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    /// The last `lines` lines of a container's log, both streams, at most 64 KiB.
    ///
    /// # Errors
    /// There is no such container, or the Engine does not answer.
    pub fn logs_tail(&self, id: &str, lines: u32) -> Result<String, DockerError> {
        let options =
            LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&lines.to_string()).build();
        let mut stream = self.0.docker.logs(id, Some(options));
        let read = async {
            let mut tail = Vec::new();
            while let Some(piece) = stream.next().await {
                tail.extend_from_slice(&piece?.into_bytes());
                let surplus = tail.len().saturating_sub(LOG_LIMIT);
                tail.drain(..surplus);
            }
            Ok(tail)
        };
        let tail = self.ask("read the log of", id, read)?;
        Ok(String::from_utf8_lossy(&tail).into_owned())
    }

    /// Runs a command in a container, feeds it `stdin`, and waits for its end, which is any exit
    /// code.
    ///
    /// # Errors
    /// It does not end within `patience` (it is then left to itself), writes more than 16 MiB, or
    /// the Engine refuses.
    pub fn exec(
        &self,
        id: &str,
        command: &[&str],
        stdin: &[u8],
        patience: Duration,
    ) -> Result<Executed, DockerError> {
        const OP: &str = "run";
        let subject = || format!("{} in {id}", command.join(" "));
        let run = exec::run(&self.0.docker, id, command, stdin);
        let run = async { tokio::time::timeout(patience, run).await };
        match self.0.runtime.block_on(run) {
            Ok(Ok(executed)) => Ok(executed),
            Ok(Err(Failure::Engine(error))) => Err(DockerError::refused(OP, subject())(error)),
            Ok(Err(Failure::TooMuch)) => {
                Err(DockerError::TooMuch { op: OP, subject: subject(), limit: exec::OUTPUT_LIMIT })
            }
            Ok(Err(Failure::NoCode)) => {
                Err(DockerError::Incomplete { op: OP, subject: subject(), what: "exit code" })
            }
            Err(_elapsed) => {
                Err(DockerError::Silent { op: OP, subject: subject(), waited: patience })
            }
        }
    }

    /// The IPv4 subnet of a network, by its name.
    ///
    /// # Errors
    /// There is no such network, or it has no such subnet.
    pub fn network(&self, name: &str) -> Result<Cidr, DockerError> {
        const OP: &str = "inspect network";
        let answer = self.ask(OP, name, self.0.docker.inspect_network(name, None))?;
        let pools = answer.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let mut subnets = pools.into_iter().filter_map(|pool| subnet(&pool.subnet?));
        let missing =
            || DockerError::Incomplete { op: OP, subject: name.to_owned(), what: "IPv4 subnet" };
        subnets.next().ok_or_else(missing)
    }

    /// Whether the Engine has an image.
    ///
    /// # Errors
    /// The Engine does not answer.
    pub fn has_image(&self, image: &str) -> Result<bool, DockerError> {
        match self.ask("inspect image", image, self.0.docker.inspect_image(image)) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes an image's name, and the image with its last name. That there is none any more is
    /// no error.
    ///
    /// # Errors
    /// A container uses it, or the Engine does not answer.
    pub fn remove_image(&self, image: &str) -> Result<(), DockerError> {
        match self.ask(
            "remove image",
            image,
            self.0.docker.remove_image(image, None::<RemoveImageOptions>, None),
        ) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Loads a Docker archive (`docker load`).
    ///
    /// # Errors
    /// The Engine refuses it, or its disk is full.
    pub(super) fn load(&self, image: &str, archive: Vec<u8>) -> Result<(), DockerError> {
        let body = bollard::body_full(archive.into());
        let mut answers = self.0.docker.import_image(ImportImageOptions::default(), body, None);
        let load = async {
            while let Some(answer) = answers.next().await {
                answer?;
            }
            Ok(())
        };
        self.ask_within(LOAD_PATIENCE, "load image", image, load)
    }

    /// Runs a future of the Engine's on its runtime.
    pub(super) fn block_on<F: Future>(&self, work: F) -> F::Output {
        self.0.runtime.block_on(work)
    }

    /// The client, for what other files of this module ask.
    pub(super) fn docker(&self) -> &Docker {
        &self.0.docker
    }

    pub(super) fn ask<T>(
        &self,
        op: &'static str,
        subject: &str,
        question: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, DockerError> {
        self.ask_within(PATIENCE, op, subject, question)
    }

    fn ask_within<T>(
        &self,
        patience: Duration,
        op: &'static str,
        subject: &str,
        question: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, DockerError> {
        let question = async { tokio::time::timeout(patience, question).await };
        match self.0.runtime.block_on(question) {
            Ok(Ok(answer)) => Ok(answer),
            Err(_) | Ok(Err(Error::RequestTimeoutError)) => {
                Err(DockerError::Silent { op, subject: subject.to_owned(), waited: patience })
            }
            Ok(Err(error)) => Err(DockerError::refused(op, subject)(error)),
        }
    }
}

/// `172.18.0.0/16`; none for IPv6.
fn subnet(text: &str) -> Option<Cidr> {
    text.parse().ok().filter(|cidr: &Cidr| cidr.address.is_ipv4())
}

/// Why there is no Engine at a socket, and what would change that.
fn unreachable(socket: &Path, error: &Error) -> Unavailable {
    use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    let socket = socket.display();
    let kind = match error {
        Error::SocketNotFoundError(_) => Some(NotFound),
        error => error::system(error),
    };
    let (found, remedy) = match kind {
        Some(NotFound) => {
            (format!("no socket {socket}"), "install and start Docker, or set DOCKER_HOST")
        }
        Some(ConnectionRefused) => (
            format!("nobody answers at {socket}"),
            "start Docker (systemctl start docker), or set DOCKER_HOST",
        ),
        Some(PermissionDenied) => (
            format!("no permission for {socket}"),
            "run as root, or as a member of the group docker",
        ),
        _ => (
            format!("{socket} does not answer as Docker does: {}", error::innermost(error)),
            "look at Docker's log (journalctl -u docker)",
        ),
    };
    Unavailable::new("Docker", found, remedy)
}

fn young_enough(spoken: &ClientVersion, version: &str) -> Result<(), Unavailable> {
    if (spoken.major_version, spoken.minor_version) >= OLDEST {
        return Ok(());
    }
    let (major, minor) = OLDEST;
    Err(Unavailable::new(
        format!("Docker with interface {major}.{minor} (Engine 20.10)"),
        format!("Engine {version}, interface {spoken}"),
        "a newer Docker",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_is_too_old_is_named_with_its_version() {
        let version = |minor| ClientVersion { major_version: 1, minor_version: minor };
        assert_eq!(young_enough(&version(41), "20.10.24"), Ok(()));
        let old = young_enough(&version(40), "19.03.1").unwrap_err();
        assert_eq!(old.found, "Engine 19.03.1, interface 1.40");
    }

    #[test]
    fn what_answers_but_is_no_docker_is_told_from_a_dead_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let closes = std::thread::spawn(move || listener.accept().map(drop).unwrap());
        let refused = Engine::connect_at(&path).unwrap_err();
        assert!(refused.found.contains("does not answer as Docker does"), "{refused}");
        closes.join().unwrap();
    }
}
