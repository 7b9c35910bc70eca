// SPDX-License-Identifier: Apache-2.0
//! The cluster of the tests: that of `NIC2POD_KUBECONFIG`, or a kind cluster made here and shared by
//! all tests of the process.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

/// Image of a node, where `NIC2POD_KIND_IMAGE` says no other.
const IMAGE: &str = "kindlab/node:v1.20.2";
/// The controller manager asks the API server 20 times a second by default, which makes it write
/// 1,000 Services' EndpointSlices in 50 s. The subnet is that of the tables' addresses.
const CONFIG: &str = r#"
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking: {disableDefaultCNI: true, kubeProxyMode: iptables, serviceSubnet: 10.96.0.0/16}
nodes: [{role: control-plane}, {role: worker}]
kubeadmConfigPatches:
- |
  kind: ClusterConfiguration
  controllerManager:
    extraArgs:
      kube-api-qps: "500"
      kube-api-burst: "1000"
      mirroring-concurrent-service-endpoint-syncs: "20"
"#;

static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());

/// A cluster, deleted with its last user if it was made here.
pub(crate) struct Cluster {
    pub(crate) kubeconfig: String,
    /// Container of the control plane's node, where Docker has it.
    node: Option<String>,
    made: Option<(PathBuf, String)>,
}

impl Cluster {
    /// The cluster, or `None` and the reason on standard output.
    pub(crate) fn any() -> Option<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(cluster) = shared.upgrade() {
            return Some(cluster);
        }
        let cluster = Self::given().or_else(Self::make).map(Arc::new)?;
        *shared = Arc::downgrade(&cluster);
        Some(cluster)
    }

    fn given() -> Option<Self> {
        let path = std::env::var_os("NIC2POD_KUBECONFIG")?;
        let kubeconfig = std::fs::read_to_string(path).expect("NIC2POD_KUBECONFIG is a file");
        let node = std::env::var("NIC2POD_KIND_NODE").ok();
        Some(Self { kubeconfig, node, made: None })
    }

    fn make() -> Option<Self> {
        let skip = |why: &str| -> Option<Self> {
            println!("skipped: {why}");
            None
        };
        let kind = std::env::var_os("KIND").map_or_else(|| "kind".into(), PathBuf::from);
        if Command::new(&kind).arg("version").output().is_err() {
            return skip("there is no kind binary (PATH or KIND)");
        }
        let image = std::env::var("NIC2POD_KIND_IMAGE").unwrap_or_else(|_| IMAGE.to_owned());
        let inspected = Command::new("docker").args(["image", "inspect", &image]).output();
        if !inspected.is_ok_and(|output| output.status.success()) {
            return skip(&format!("Docker has no image {image} (NIC2POD_KIND_IMAGE)"));
        }
        let name = format!("kind-api-{}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        let (config, kubeconfig) =
            (folder.path().join("cluster.yaml"), folder.path().join("kubeconfig"));
        std::fs::write(&config, CONFIG).unwrap();
        let made = Some((kind.clone(), name.clone()));
        let node = Some(format!("{name}-control-plane"));
        // Made before the cluster is, so that half a cluster goes too.
        let mut cluster = Self { kubeconfig: String::new(), node, made };
        let output = Command::new(kind)
            .args(["create", "cluster", "--name", &name, "--image", &image, "--config"])
            .arg(&config)
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        cluster.kubeconfig = std::fs::read_to_string(kubeconfig).unwrap();
        for node in [format!("{name}-control-plane"), format!("{name}-worker")] {
            give_a_network(&node);
        }
        Some(cluster)
    }

    /// Waits until the node has this many Services' chains; `None` where the node is not in Docker.
    pub(crate) fn await_rules(&self, at_least: usize, deadline: Instant) -> Option<usize> {
        let node = self.node.as_ref()?;
        loop {
            let saved = ["exec", node, "iptables-save", "-t", "nat"];
            let output = Command::new("docker").args(saved).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            let chains = text.lines().filter(|line| line.starts_with(":KUBE-SVC-")).count();
            if chains >= at_least {
                return Some(chains);
            }
            assert!(Instant::now() < deadline, "{chains} of {at_least} Services have a chain");
        }
    }
}

/// A kubelet is ready once a network is configured; the tests' pods need none that works.
fn give_a_network(node: &str) {
    let conflist = r#"{"cniVersion":"0.3.1","name":"lone","plugins":[{"type":"ptp","ipam":
        {"type":"host-local","ranges":[[{"subnet":"10.244.200.0/24"}]]}}]}"#;
    let script = format!("cat > /etc/cni/net.d/10-lone.conflist <<'E'\n{conflist}\nE");
    let output = Command::new("docker").args(["exec", node, "sh", "-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some((kind, name)) = &self.made {
            let deleted = Command::new(kind).args(["delete", "cluster", "--name", name]).output();
            if !deleted.is_ok_and(|output| output.status.success()) {
                println!("failed to delete the kind cluster {name}");
            }
        }
    }
}
