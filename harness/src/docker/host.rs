// SPDX-License-Identifier: Apache-2.0
//! A host outside the cluster: a container with an agent in it, on the network of the nodes.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use bollard::models::HostConfig;
use testcontainers::core::WaitFor;
use testcontainers::core::client::docker_client_instance;
use testcontainers::core::error::TestcontainersError;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt};

use super::{AGENT_SOCKET, AgentsImage, DockerError, Engine};
use crate::net::{Agent, ToolError};

/// Label of whatever a run leaves in Docker while it lasts; its value is the run's id.
pub const RUN_LABEL: &str = "nic2pod.dev/run";

/// What a host is to be.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// The container's name, and its host name.
    pub name: String,
    /// Docker network it is attached to, which exists.
    pub network: String,
    /// The run's id, for its label.
    pub run_id: String,
    /// How long it may take to be ready.
    pub patience: Duration,
}

/// A host that is up, with `load` listening at [`AGENT_SOCKET`].
pub struct Host {
    engine: Engine,
    /// Present until `down`.
    container: Option<ContainerAsync<GenericImage>>,
    name: String,
    id: String,
    pid: u32,
    ip: IpAddr,
}

impl Host {
    /// Starts one and waits until its agent listens.
    ///
    /// # Errors
    /// The network or the image is not there, a container of that name is, or the agent does not
    /// come up, whose last words are then in the error. Nothing is left behind.
    pub fn up(engine: &Engine, image: &AgentsImage, spec: HostSpec) -> Result<Self, DockerError> {
        const OP: &str = "start host";
        let missing = |what| DockerError::Incomplete { op: OP, subject: spec.name.clone(), what };
        // Asked here, because testcontainers takes any 404 for a missing image and asks a registry.
        engine.network(&spec.network)?;
        if !engine.has_image(&image.reference())? {
            return Err(missing("image of the agents"));
        }
        if engine.inspect(&spec.name).is_ok() {
            return Err(DockerError::Taken { name: spec.name });
        }
        let started = engine.block_on(request(image, &spec).start());
        let container = match started {
            Ok(container) => container,
            Err(source) => {
                // testcontainers leaves one behind that was made and could not be started.
                let left = engine.remove(&spec.name, true).err().map(|error| error.to_string());
                let source = Box::new(source);
                return Err(DockerError::Host { subject: spec.name, source, left });
            }
        };
        let id = container.id().to_owned();
        let mut host = Self {
            engine: engine.clone(),
            container: Some(container),
            name: spec.name.clone(),
            id,
            pid: 0,
            ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let seen = engine.inspect(&host.id)?;
        host.pid = seen.pid.ok_or_else(|| missing("process: it ended"))?;
        host.ip = seen.networks.get(&spec.network).ok_or_else(|| missing("address"))?.ip;
        Ok(host)
    }

    /// The container's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its first process, in this machine's numbering.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its address in the network it was asked for.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Its agent's socket, as this machine sees it.
    pub fn socket(&self) -> PathBuf {
        socket_of(self.pid)
    }

    /// Begins a talk with its agent.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn agent(&self, patience: Duration) -> Result<Agent, ToolError> {
        Agent::connect(&self.name, &self.socket(), patience)
    }

    /// Removes it.
    ///
    /// # Errors
    /// The Engine refuses.
    pub fn down(mut self) -> Result<(), DockerError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), DockerError> {
        let Some(container) = self.container.take() else { return Ok(()) };
        let removed = self.engine.block_on(container.rm());
        // Asked again whatever became of that: one that is gone, by whomever, is no failure.
        let result = self.engine.remove(&self.id, true);
        drop(removed);
        result
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The last resort of a guard whose owner did not call `down`; nobody is left to tell.
        let _ = self.end();
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Host({}, {}, pid {})", self.name, self.ip, self.pid)
    }
}

/// Where the agent of a container or pod listens, by its first process.
pub fn socket_of(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root{AGENT_SOCKET}"))
}

fn request(image: &AgentsImage, spec: &HostSpec) -> ContainerRequest<GenericImage> {
    let network = spec.network.clone();
    GenericImage::new(image.name(), image.tag())
        .with_wait_for(WaitFor::message_on_stderr(workloads::READY))
        .with_container_name(&spec.name)
        .with_hostname(&spec.name)
        .with_label(RUN_LABEL, &spec.run_id)
        .with_startup_timeout(spec.patience)
        .with_host_config_modifier(move |config| {
            attach(config, &network);
            negotiate();
        })
}

/// Attached here and not by `with_network`, which asks the Engine about networks before the modifier
/// of the host's configuration is called, and so before [`negotiate`].
fn attach(config: &mut HostConfig, network: &str) {
    config.network_mode = Some(network.to_owned());
    config.publish_all_ports = Some(false);
}

/// Has testcontainers speak the Engine's version of the interface: it speaks the newest that it
/// knows, which an older Engine refuses. Its client is shared, and what is negotiated on a copy of
/// it holds for all, but it lives only as long as a container does or is being started. The modifier
/// is called in that time, before anything is asked of the Engine.
fn negotiate() {
    let runtime = tokio::runtime::Handle::current();
    let negotiated = tokio::task::block_in_place(|| {
        runtime.block_on(async {
            let docker = docker_client_instance().await.map_err(TestcontainersError::from)?;
            docker.negotiate_version().await.map_err(TestcontainersError::other)
        })
    });
    // Where it failed, what is asked next fails too, and that has a way to say so.
    drop(negotiated);
}
