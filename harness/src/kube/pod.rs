// SPDX-License-Identifier: Apache-2.0
//! A pod as this program wants it, and as the cluster has it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerState, ContainerStatus, EnvVar, EnvVarSource, Pod,
    PodSpec as Spec, Probe, SecretKeySelector, SecurityContext, TCPSocketAction, Toleration,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

/// Name of a pod's one container.
pub(super) const CONTAINER: &str = "main";
/// `nobody`, by number: an image of one static binary has no names.
const USER: i64 = 65_534;

/// When a node's runtime fetches an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Never: it was loaded into the nodes.
    Never,
    /// If it is not there.
    IfNotPresent,
}

/// A pod with one container, on a node that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSpec {
    /// Name, a DNS label.
    pub name: String,
    /// Node it runs on. It goes there whatever the scheduler would think.
    pub node: String,
    /// Image.
    pub image: String,
    /// When the image is fetched.
    pub pull: PullPolicy,
    /// Program; empty for the image's own.
    pub command: Vec<String>,
    /// Arguments.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Environment that is kept from those who only see pods.
    pub secret_env: Vec<SecretVariable>,
    /// The pod is ready once this TCP port accepts; `None`: as soon as it runs.
    pub ready_port: Option<u16>,
}

/// A variable of the environment whose value is in a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretVariable {
    /// Its name.
    pub name: String,
    /// Name of the Secret.
    pub secret: String,
    /// Key of the value there.
    pub key: String,
}

impl SecretVariable {
    fn object(&self) -> EnvVar {
        let Self { name, secret, key } = self.clone();
        let selector = SecretKeySelector { name: secret, key, optional: None };
        let from = EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() };
        EnvVar { name, value_from: Some(from), ..EnvVar::default() }
    }
}

impl PodSpec {
    pub(super) fn object(&self, labels: BTreeMap<String, String>) -> Pod {
        let some = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
        let env = |(name, value): &(String, String)| EnvVar {
            name: name.clone(),
            value: Some(value.clone()),
            ..EnvVar::default()
        };
        let env: Vec<EnvVar> = self
            .env
            .iter()
            .map(env)
            .chain(self.secret_env.iter().map(SecretVariable::object))
            .collect();
        let container = Container {
            name: CONTAINER.to_owned(),
            image: Some(self.image.clone()),
            image_pull_policy: Some(format!("{:?}", self.pull)),
            command: some(&self.command),
            args: some(&self.args),
            env: (!env.is_empty()).then_some(env),
            readiness_probe: self.ready_port.map(readiness),
            // Nothing that slows a system call (seccomp) and nothing that a guarded cluster refuses.
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                ..SecurityContext::default()
            }),
            ..Container::default()
        };
        let everything =
            Toleration { operator: Some("Exists".to_owned()), ..Toleration::default() };
        let spec = Spec {
            containers: vec![container],
            node_name: Some(self.node.clone()),
            tolerations: Some(vec![everything]),
            // Otherwise each Service of the namespace is seven variables in the environment, and a
            // program cannot be started with more than the kernel takes (`MAX_ARG_STRLEN`).
            enable_service_links: Some(false),
            automount_service_account_token: Some(false),
            termination_grace_period_seconds: Some(0),
            // A server that ended is to be seen, not to be started again.
            restart_policy: Some("Never".to_owned()),
            ..Spec::default()
        };
        let mut pod = Pod { spec: Some(spec), ..Pod::default() };
        pod.metadata.name = Some(self.name.clone());
        pod.metadata.labels = Some(labels);
        pod
    }
}

fn readiness(port: u16) -> Probe {
    Probe {
        tcp_socket: Some(TCPSocketAction { port: IntOrString::Int(port.into()), host: None }),
        period_seconds: Some(1),
        timeout_seconds: Some(1),
        ..Probe::default()
    }
}

/// A pod that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningPod {
    /// Name.
    pub name: String,
    /// Node it runs on.
    pub node: String,
    /// Its address.
    pub address: IpAddr,
    /// Its container's id, without the runtime's name before it.
    pub container_id: String,
}

/// Where a pod stands on its way to being ready.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is there.
    Ready(RunningPod),
    /// Not yet; what it waits for.
    Waiting(String),
    /// It will never be; why.
    Over(String),
}

/// Reasons to wait that go away only when someone changes something.
const HOPELESS: [&str; 3] = ["ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError"];
/// What is in a busy kubelet's message when it has not heard yet of a Secret or ConfigMap that is there: it tries again
/// (`WatchBasedManager.GetObject`, pkg/kubelet/util/manager).
const NOT_HEARD_YET: &str = "timed out waiting for the condition";

/// Reads a pod's status.
pub(super) fn standing(pod: &Pod) -> Standing {
    let Some(status) = &pod.status else { return Standing::Waiting("it has no status".to_owned()) };
    let container = status.container_statuses.as_deref().and_then(<[_]>::first);
    if let Some(ended) = container.and_then(ended) {
        return Standing::Over(ended);
    }
    let words = |reason: &Option<String>, message: &Option<String>| {
        [reason, message].into_iter().flatten().cloned().collect::<Vec<_>>().join(": ")
    };
    let phase = status.phase.as_deref().unwrap_or("Unknown");
    if phase == "Failed" || phase == "Succeeded" {
        let why = words(&status.reason, &status.message);
        return Standing::Over(format!("it is {phase}: {why}"));
    }
    if let Some(waiting) =
        container.and_then(|container| container.state.as_ref()?.waiting.as_ref())
    {
        let why = words(&waiting.reason, &waiting.message);
        let hopeless = waiting.reason.as_deref().is_some_and(|why| HOPELESS.contains(&why));
        return if hopeless && !why.ends_with(NOT_HEARD_YET) {
            Standing::Over(why)
        } else {
            Standing::Waiting(why)
        };
    }
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    if phase != "Running" || ready.is_none_or(|ready| ready.status != "True") {
        let why = ready.map(|ready| words(&ready.reason, &ready.message)).unwrap_or_default();
        let why = if why.is_empty() { "its node has not taken it up".to_owned() } else { why };
        return Standing::Waiting(format!("it is {phase}: {why}"));
    }
    let address = status.pod_ip.as_deref().and_then(|address| address.parse().ok());
    let id = container.and_then(|container| container.container_id.as_deref()).unwrap_or_default();
    match address {
        Some(address) => Standing::Ready(RunningPod {
            name: pod.name_any(),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
            address,
            container_id: id.split_once("://").map_or(id, |(_, id)| id).to_owned(),
        }),
        None => Standing::Over(format!(
            "its address is {}, not one of version 4",
            status.pod_ip.as_deref().unwrap_or("unknown")
        )),
    }
}

/// How a container ended, if it did.
pub(super) fn ended(container: &ContainerStatus) -> Option<String> {
    let ContainerState { terminated: Some(terminated), .. } = container.state.as_ref()? else {
        return None;
    };
    let reason = terminated.reason.as_deref().unwrap_or("no reason given");
    let message = terminated.message.as_deref().unwrap_or_default();
    let colon = if message.is_empty() { "" } else { ": " };
    Some(format!("its program ended with {} ({reason}){colon}{message}", terminated.exit_code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: &str) -> Pod {
        let head =
            "{metadata: {name: target-0}, spec: {nodeName: worker, containers: []}, status: ";
        serde_saphyr::from_str(&format!("{head}{status}}}")).unwrap()
    }

    #[test]
    fn a_ready_pod_has_an_address_and_a_bare_container_id() {
        let pod =
            pod("{phase: Running, podIP: 10.244.1.5, conditions: [{type: Ready, status: 'True'}],
              containerStatuses: [{name: main, image: i, imageID: i, ready: true, restartCount: 0,
                containerID: 'containerd://0123abcd', state: {running: {}}}]}");
        let ready = RunningPod {
            name: "target-0".to_owned(),
            node: "worker".to_owned(),
            address: IpAddr::from([10, 244, 1, 5]),
            container_id: "0123abcd".to_owned(),
        };
        assert_eq!(standing(&pod), Standing::Ready(ready));
    }

    #[test]
    fn an_image_that_may_not_be_fetched_is_the_end_and_one_that_is_tried_again_is_not() {
        let waiting = |reason| {
            pod(&format!(
                "{{phase: Pending, containerStatuses: [{{name: main, image: i, imageID: '', ready: false,
                  restartCount: 0, state: {{waiting: {{reason: {reason}, message: not present}}}}}}]}}"
            ))
        };
        let words = |reason| format!("{reason}: not present");
        let never = standing(&waiting("ErrImageNeverPull"));
        assert_eq!(never, Standing::Over(words("ErrImageNeverPull")));
        let again = standing(&waiting("ImagePullBackOff"));
        assert_eq!(again, Standing::Waiting(words("ImagePullBackOff")));
    }

    #[test]
    fn a_secret_that_is_not_there_is_the_end_and_one_that_a_busy_node_has_not_heard_of_is_not() {
        let waiting = |message| {
            pod(&format!(
                "{{phase: Pending, containerStatuses: [{{name: main, image: i, imageID: '', ready: false, restartCount: 0,
                  state: {{waiting: {{reason: CreateContainerConfigError, message: '{message}'}}}}}}]}}"
            ))
        };
        let words = |message| format!("CreateContainerConfigError: {message}");
        let absent = "secret \"marks\" not found";
        assert_eq!(standing(&waiting(absent)), Standing::Over(words(absent)));
        let late = "failed to sync secret cache: timed out waiting for the condition";
        assert_eq!(standing(&waiting(late)), Standing::Waiting(words(late)));
    }

    #[test]
    fn a_program_that_ended_is_told_with_its_code() {
        let pod = pod(
            "{phase: Failed, containerStatuses: [{name: main, image: i, imageID: i, ready: false,
              restartCount: 0, state: {terminated: {exitCode: 2, reason: Error}}}]}",
        );
        assert_eq!(standing(&pod), Standing::Over("its program ended with 2 (Error)".to_owned()));
    }

    #[test]
    fn a_pod_that_nobody_has_looked_at_says_so() {
        let said = Standing::Waiting("it is Pending: its node has not taken it up".to_owned());
        assert_eq!(standing(&pod("{phase: Pending}")), said);
    }

    #[test]
    fn the_object_keeps_the_namespaces_services_out_of_its_environment() {
        let spec = PodSpec {
            name: "target-0".to_owned(),
            node: "worker".to_owned(),
            image: "nic2pod/target:1".to_owned(),
            pull: PullPolicy::Never,
            command: vec!["/target".to_owned()],
            args: vec!["--spec".to_owned(), "{}".to_owned()],
            env: vec![("A".to_owned(), "b".to_owned())],
            secret_env: vec![SecretVariable {
                name: "C".to_owned(),
                secret: "tls".to_owned(),
                key: "key".to_owned(),
            }],
            ready_port: Some(8080),
        };
        insta::assert_json_snapshot!(spec.object(BTreeMap::new()));
    }
}
