// SPDX-License-Identifier: Apache-2.0
//! A kube-proxy program in a node's namespace, and the API server that tells it what to do: started,
//! waited for, ended.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::config::{KUBECONFIG, kubeconfig};
use super::stand_in::{CONFIGURATION, StandIn};
use super::{ApiServer, ask, programmed};
use crate::Unavailable;
use crate::net::addresses::family;
use crate::net::daemon::Daemon;
use crate::net::process::search_path;
use crate::net::{Tool, ToolError};
use crate::proxy::{
    APPLY_PATIENCE, Backend, NodeView, ProxyError, RuleText, Service, ServiceTable,
};

/// How long it may take to say its mode.
const SPEAKS: Duration = Duration::from_secs(60);
/// How often it is asked whether it is done: it does not say so by itself.
const GLANCE: Duration = Duration::from_millis(10);
/// How long its own clean-up may take.
const CLEAN_UP: Duration = Duration::from_secs(120);

/// A kube-proxy that was started.
#[derive(Debug)]
pub(super) struct Process {
    stand_in: StandIn,
    // Ended in this order.
    daemon: Daemon,
    server: ApiServer,
    folder: TempDir,
}

impl Process {
    /// Starts it, and a server that holds a table.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn start(
        stand_in: &StandIn,
        node: &NodeView<'_>,
        table: &ServiceTable,
        configuration: &RuleText,
    ) -> Result<Self, ProxyError> {
        let failed = |what: &'static str| {
            move |source: io::Error| {
                ProxyError::kube_proxy(node.name, format!("{what}: {source}"), String::new())
            }
        };
        let folder = tempfile::Builder::new()
            .prefix("kube-proxy-")
            .tempdir_in(node.scratch)
            .map_err(failed("make a folder for it"))?;
        let server = ApiServer::start(node.netns, table, node.name, node.address)
            .map_err(failed("start an API server for it"))?;
        let tools = write(&folder, configuration, &server, stand_in.options.backend)
            .map_err(failed("write its files"))?;
        let mut command = Command::new(&stand_in.program.path);
        command.args(["--config", CONFIGURATION]).current_dir(folder.path());
        let daemon =
            Daemon::start(node.netns, command, &tools).map_err(stand_in.failed("start"))?;
        Ok(Self { stand_in: stand_in.clone(), daemon, server, folder })
    }

    /// Waits until it says which mode it is in, and holds it to it. Returns how it said so.
    ///
    /// # Errors
    /// [`ProxyError::Unavailable`] where it is another than it was told: it falls back without a sign.
    pub(super) fn mode(&mut self, node: &NodeView<'_>) -> Result<String, ProxyError> {
        let deadline = Instant::now() + SPEAKS;
        let said = loop {
            match node.netns.block_on(ask::proxy_mode) {
                Ok(said) => break said,
                Err(error) => self.wait(node, deadline, &format!("its mode: {error}"))?,
            }
        };
        let StandIn { program, mode, .. } = &self.stand_in;
        let word = format!("{program} on {} answers /proxyMode with {said}", node.name);
        if said == *mode {
            return Ok(word);
        }
        Err(Unavailable::new(
            format!("a kube-proxy in mode {mode}, which it was told to be in"),
            word,
            "a kernel and a kube-proxy that have the mode, or --proxy own",
        )
        .into())
    }

    /// How often it has brought the kernel up to date.
    pub(super) fn syncs(&self, node: &NodeView<'_>) -> Option<f64> {
        node.netns.block_on(ask::syncs).ok().flatten()
    }

    /// Has its server tell it of one Service more.
    pub(super) fn add(&self, service: Service) {
        self.server.add(service);
    }

    /// Waits until it has written a table to the kernel, where it had written `before` times. Returns how
    /// long that took since `begun`, without the last look at the kernel.
    ///
    /// # Errors
    /// It has ended, or is not done in time.
    pub(super) fn synced(
        &mut self,
        node: &NodeView<'_>,
        table: &ServiceTable,
        before: Option<f64>,
        begun: Instant,
    ) -> Result<Duration, ProxyError> {
        let deadline = begun + APPLY_PATIENCE;
        let mut seen = before;
        loop {
            // All its rules take seconds to read where there are many Services, which would slow it down
            // and is needless until it says that it has written some.
            let counted = node.netns.block_on(ask::syncs);
            let took = begun.elapsed();
            let found = match counted {
                Err(error) => format!("its count of syncs: {error}"),
                Ok(Some(count)) if count == seen.unwrap_or(0.0) => "no sync".to_owned(),
                Ok(count) => {
                    seen = count;
                    let mode = self.stand_in.mode;
                    let missing =
                        programmed::missing(mode, family(node.address), node.netns, table, &[])
                            .map_err(self.stand_in.failed("read back"))?;
                    match node.netns.block_on(ask::health) {
                        Ok(()) if missing.is_nothing() => return Ok(took),
                        Ok(()) => missing.to_string(),
                        Err(error) => format!("{error}; {missing}"),
                    }
                }
            };
            self.wait(node, deadline, &found)?;
        }
    }

    /// That it has not ended.
    ///
    /// # Errors
    /// It has, with the end of its log.
    pub(super) fn living(&mut self, node: &NodeView<'_>) -> Result<(), ProxyError> {
        match self.daemon.ended() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.failed(node, format!("it ended with {status}"))),
            Err(error) => Err(self.failed(node, error.to_string())),
        }
    }

    /// Ends it, and has it take away what it wrote. What its clean-up leaves is left: chains that nothing
    /// leads to.
    ///
    /// # Errors
    /// The system refuses, or its clean-up fails.
    pub(super) fn down(self, node: &NodeView<'_>) -> Result<(), ProxyError> {
        let Self { stand_in, daemon, server, folder } = self;
        daemon.down().map_err(|source| {
            ProxyError::kube_proxy(node.name, format!("end it: {source}"), String::new())
        })?;
        drop(server);
        clean_up(&stand_in, node, folder.path())
    }

    /// Waits a moment, unless there is nothing to wait for any more.
    fn wait(
        &mut self,
        node: &NodeView<'_>,
        deadline: Instant,
        found: &str,
    ) -> Result<(), ProxyError> {
        self.living(node)?;
        if Instant::now() > deadline {
            return Err(self.failed(node, format!("it was not ready in time: {found}")));
        }
        // Nobody tells when it has got further; it is asked again.
        std::thread::sleep(GLANCE);
        Ok(())
    }

    /// What went wrong, with the end of its log and what our server had no answer to.
    fn failed(&self, node: &NodeView<'_>, what: String) -> ProxyError {
        let refused = self.server.refused();
        let refused = refused.iter().map(|line| format!("\nits API server refused {line}"));
        let log = format!("{}{}", self.daemon.log().trim_end(), refused.collect::<String>());
        ProxyError::kube_proxy(node.name, what, log)
    }
}

impl StandIn {
    fn failed(&self, op: &'static str) -> impl Fn(ToolError) -> ProxyError + use<> {
        let mode = self.mode;
        move |source| ProxyError::Tool { op, mode, source }
    }
}

/// Writes what it is started with into a folder, and links there to the iptables it is to use: it takes
/// what the name `iptables` finds. Returns the folder of the links.
fn write(
    folder: &TempDir,
    configuration: &RuleText,
    server: &ApiServer,
    backend: Backend,
) -> io::Result<PathBuf> {
    std::fs::write(folder.path().join(CONFIGURATION), &configuration.text)?;
    std::fs::write(folder.path().join(KUBECONFIG), kubeconfig(server.address()))?;
    let tools = tools(folder.path());
    std::fs::create_dir(&tools)?;
    for family in ["iptables", "ip6tables"] {
        for suffix in ["", "-save", "-restore"] {
            let program = format!("{family}-{}{suffix}", backend.word());
            if let Some(path) = in_path(&program) {
                symlink(path, tools.join(format!("{family}{suffix}")))?;
            }
        }
    }
    Ok(tools)
}

fn tools(folder: &Path) -> PathBuf {
    folder.join("bin")
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = search_path();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.exists())
}

/// Has the program take away what it wrote, with the iptables it wrote it with.
fn clean_up(stand_in: &StandIn, node: &NodeView<'_>, folder: &Path) -> Result<(), ProxyError> {
    let mut path = tools(folder).into_os_string();
    path.push(":");
    path.push(search_path());
    let program = stand_in.program.path.to_string_lossy();
    let tool = Tool::new(program).args(["--cleanup"]).env("PATH", path).within(CLEAN_UP);
    tool.run_on(node.netns).map(drop).map_err(stand_in.failed("remove"))
}
