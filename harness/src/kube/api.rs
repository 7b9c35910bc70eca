// SPDX-License-Identifier: Apache-2.0
//! The way to a cluster's API server.

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::{KubeError, ServerVersion};

/// Longest that a connection to the API server may take, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest silence of the API server in an answer. Above what a watch is asked to last.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

/// A cluster's API server, reached and known by its version. Clones share their connections.
#[derive(Clone)]
pub struct Api {
    config: Config,
    client: Client,
    version: ServerVersion,
}

impl Api {
    /// The cluster that a kubeconfig's text names in `context`, or in its current one. `server`
    /// takes the place of the URL in it: `https://127.0.0.1:6443` from inside a control plane node.
    ///
    /// # Errors
    /// The text does not name a cluster, or the server does not answer.
    pub async fn from_yaml(
        kubeconfig: &str,
        context: Option<&str>,
        server: Option<&str>,
    ) -> Result<Self, KubeError> {
        let subject = named("the kubeconfig", context);
        let kubeconfig = Kubeconfig::from_yaml(kubeconfig).map_err(config(&subject))?;
        let options = KubeConfigOptions { context: context.map(Into::into), ..Default::default() };
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(config(&subject))?;
        if let Some(server) = server {
            config.cluster_url = server.parse().map_err(|error| KubeError::Value {
                subject: format!("server URL `{server}`"),
                problem: format!("{error}"),
            })?;
        }
        Self::connect(config).await
    }

    /// The cluster that the user's own kubeconfig names: that of `KUBECONFIG`, or `~/.kube/config`.
    ///
    /// # Errors
    /// There is none, it has no such context, or the server does not answer.
    pub async fn from_default(context: Option<&str>) -> Result<Self, KubeError> {
        let options = KubeConfigOptions { context: context.map(Into::into), ..Default::default() };
        let subject = named("KUBECONFIG or ~/.kube/config", context);
        let config = Config::from_kubeconfig(&options).await.map_err(config(&subject))?;
        Self::connect(config).await
    }

    async fn connect(mut config: Config) -> Result<Self, KubeError> {
        // Two providers are linked in with Docker's client, so rustls has no default of its own. An
        // error says that another caller was first with the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(SILENCE);
        // An idle connection's silence is not the server's.
        config.reset_reader_on_write = true;
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config.clone()).map_err(KubeError::api("reach", &server))?;
        let asked = tokio::time::timeout(SILENCE, client.apiserver_version()).await;
        let silent =
            |_| KubeError::Silent { op: "reach", subject: server.clone(), waited: SILENCE };
        let info = asked.map_err(silent)?.map_err(KubeError::api("reach", &server))?;
        let version = ServerVersion::of(info.clone()).ok_or_else(|| KubeError::Answer {
            subject: format!("the version of {server}"),
            problem: format!("major `{}`, minor `{}`", info.major, info.minor),
        })?;
        Ok(Self { config, client, version })
    }

    /// The same server with more patience: an answer may be silent for that long. It has connections of
    /// its own.
    ///
    /// # Errors
    /// None that the first one did not have.
    pub fn patient(&self, silence: Duration) -> Result<Self, KubeError> {
        let mut config = self.config.clone();
        config.read_timeout = Some(silence.max(SILENCE));
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config.clone()).map_err(KubeError::api("reach", server))?;
        Ok(Self { config, client, version: self.version.clone() })
    }

    /// What the server is.
    pub fn version(&self) -> &ServerVersion {
        &self.version
    }

    /// The client, for what this module does not do.
    pub fn client(&self) -> Client {
        self.client.clone()
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("version", &self.version).finish_non_exhaustive()
    }
}

fn named(kubeconfig: &str, context: Option<&str>) -> String {
    match context {
        Some(context) => format!("context `{context}` of {kubeconfig}"),
        None => kubeconfig.to_owned(),
    }
}

fn config(subject: &str) -> impl FnOnce(kube::config::KubeconfigError) -> KubeError {
    move |source| KubeError::Config { subject: subject.to_owned(), source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(future)
    }

    /// A kubeconfig of one context whose server is not there: nothing listens at port 1.
    const NOBODY: &str = "
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]
contexts: [{name: nobody, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
current-context: nobody
";

    #[test]
    fn a_context_that_is_not_there_is_named() {
        let error = wait(Api::from_yaml(NOBODY, Some("other"), None)).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("failed to read context `other` of the kubeconfig: "), "{said}");
    }

    #[test]
    fn a_server_that_is_not_there_is_named_with_the_reason() {
        let error = wait(Api::from_yaml(NOBODY, None, None)).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("failed to reach http://127.0.0.1:1/: "), "{said}");
        assert!(said.contains("Connection refused"), "{said}");
    }

    #[test]
    fn the_servers_url_can_be_another() {
        let error = wait(Api::from_yaml(NOBODY, None, Some("http://127.0.0.1:2"))).unwrap_err();
        assert!(error.to_string().starts_with("failed to reach http://127.0.0.1:2/"), "{error}");
    }
}
