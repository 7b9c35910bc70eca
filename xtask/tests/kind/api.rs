// SPDX-License-Identifier: Apache-2.0
//! The API against a real cluster, one that exists ([`super::cluster`]).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use harness::kube::{
    Addresses, Api, KubeError, Manifest, Namespace, PodSpec, Pods, PullPolicy, Services,
};
use harness::plan::{Mode, Position};
use harness::proxy::{
    Affinity, Endpoint, Fill, Policy, Protocol, Service, ServicePort, ServiceTable,
};

use super::cluster;

fn soon(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// The measured Service of the tests.
fn web(cluster_ip: [u8; 4], node_port: Option<u16>) -> Service {
    Service {
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        cluster_ip: cluster_ip.into(),
        load_balancer_ips: Vec::new(),
        ports: vec![ServicePort {
            name: "http".to_owned(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port,
            endpoints: vec![Endpoint {
                address: SocketAddr::new(IpAddr::from([10, 244, 1, 200]), 8080),
                node: "elsewhere".to_owned(),
            }],
        }],
        affinity: Affinity::None,
        external_policy: Policy::Cluster,
        internal_policy: Policy::Cluster,
    }
}

fn table(services: u32, measured: Service) -> ServiceTable {
    let fill = Fill { services, endpoints: 2, position: Position::Last, seed: 1 };
    fill.table_within("10.96.0.0/16".parse().unwrap(), vec![measured]).unwrap()
}

/// Runs `work` in a namespace of its own, which is gone afterwards, come what may.
fn in_namespace<F: Future<Output = ()>>(name: &str, work: impl FnOnce(Api, Namespace) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let api = Api::from_yaml(&cluster::kubeconfig(), None, None).await.unwrap();
        let namespace = Namespace::create(&api, name, "r-test").await.unwrap();
        let work = work(api.clone(), namespace.clone());
        let outcome = std::panic::AssertUnwindSafe(work).catch_unwind().await;
        let down = namespace.down(&api, soon(120)).await;
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        down.unwrap();
        let left = Namespace::leftovers(&api).await.unwrap();
        assert!(left.iter().all(|left| left.name != name), "{left:?}");
    });
}

#[test]
#[ignore = "a_cluster_that_exists_... runs it, and has one"]
fn a_cluster_tells_what_it_is() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let api = Api::from_yaml(&cluster::kubeconfig(), None, None).await.unwrap();
        eprintln!("{}", api.version());
        assert!(api.version().at_least(1, 16));
        let nodes = api.await_nodes_ready(1, soon(60)).await.unwrap();
        eprintln!("{nodes:#?}");
        assert!(nodes.iter().all(|node| node.ready && node.address.is_some()));
        let proxy = api.kube_proxy().await.unwrap().expect("made with kubeadm");
        let log = api.kube_proxy_log(&nodes[0].name).await.unwrap().expect("it runs");
        eprintln!("{proxy:?}\n{log:#?}");
        assert_eq!(log.mode, Some(Mode::Iptables));
        assert!(api.kube_proxy_log("nobody").await.unwrap().is_none());
        let late = api.await_nodes_ready(1_000, soon(1)).await.unwrap_err();
        assert!(late.to_string().contains("of 1000 nodes are there"), "{late}");
    });
}

#[test]
#[ignore = "a_cluster_that_exists_... runs it, and has one"]
fn hundreds_of_services_are_made_changed_and_taken_away() {
    in_namespace("kind-api-services", async |api, namespace| {
        let services = Services::new(&api, &namespace, Addresses::Table);
        let (start, mut told) = (Instant::now(), Vec::new());
        let many = table(200, web([10, 96, 100, 100], Some(30_080)));
        let synced = services.sync(&many, soon(240), |done, total| told.push((done, total))).await;
        let synced = synced.unwrap();
        eprintln!("200 Services created in {:?}", start.elapsed());
        assert_eq!((synced.created, synced.replaced, synced.deleted), (200, 0, 0));
        assert_eq!((told[0], *told.last().unwrap()), ((0, 200), (200, 200)));
        assert_eq!(synced.placed["web"].node_ports[&80], 30_080);
        let programmed = cluster::await_rules(199, soon(240));
        eprintln!("programmed {:?} after the start, {programmed} chains", start.elapsed());

        let start = Instant::now();
        let again = services.sync(&many, soon(240), |_, _| ()).await.unwrap();
        eprintln!("synced again in {:?}", start.elapsed());
        assert_eq!((again.unchanged, again.created + again.replaced + again.deleted), (200, 0));

        let start = Instant::now();
        let few = table(10, web([10, 96, 100, 101], None));
        let synced = services.sync(&few, soon(240), |_, _| ()).await.unwrap();
        eprintln!("down to 10 in {:?}", start.elapsed());
        assert_eq!((synced.deleted, synced.replaced, synced.unchanged), (190, 1, 9));
        assert_eq!(synced.placed["web"].cluster_ip, IpAddr::from([10, 96, 100, 101]));

        let start = Instant::now();
        let synced = services.sync(&many, soon(240), |_, _| ()).await.unwrap();
        eprintln!("up to 200 again in {:?}", start.elapsed());
        assert_eq!((synced.created, synced.replaced, synced.unchanged), (190, 1, 9));
        let programmed = cluster::await_rules(199, soon(240));
        eprintln!("programmed {:?} after the start, {programmed} chains", start.elapsed());
    });
}

#[test]
#[ignore = "a_cluster_that_exists_... runs it, and has one"]
fn two_services_can_change_addresses_with_each_other() {
    in_namespace("kind-api-swap", async |api, namespace| {
        let services = Services::new(&api, &namespace, Addresses::Table);
        let a = Service { name: "a".to_owned(), ..web([10, 96, 100, 110], Some(30_081)) };
        let b = Service { name: "b".to_owned(), ..web([10, 96, 100, 111], None) };
        let before = ServiceTable { services: vec![a.clone(), b.clone()] };
        services.sync(&before, soon(30), |_, _| ()).await.unwrap();
        let after = ServiceTable {
            services: vec![
                Service { name: "b".to_owned(), ..a },
                Service { name: "a".to_owned(), ..b },
            ],
        };
        let synced = services.sync(&after, soon(30), |_, _| ()).await.unwrap();
        assert_eq!((synced.replaced, synced.created, synced.deleted), (2, 0, 0));
        let again = services.sync(&after, soon(30), |_, _| ()).await.unwrap();
        assert_eq!(again.unchanged, 2);
        assert_eq!(again.placed["b"].cluster_ip, IpAddr::from([10, 96, 100, 110]));
        assert_eq!(again.placed["b"].node_ports[&80], 30_081);
    });
}

#[test]
#[ignore = "a_cluster_that_exists_... runs it, and has one"]
fn a_cluster_that_chooses_addresses_says_which() {
    in_namespace("kind-api-chosen", async |api, namespace| {
        let services = Services::new(&api, &namespace, Addresses::Cluster);
        let table = table(3, web([10, 96, 100, 120], Some(30_082)));
        let synced = services.sync(&table, soon(30), |_, _| ()).await.unwrap();
        assert_eq!(synced.placed.len(), 3);
        assert!(synced.placed["web"].node_ports[&80] >= 1024);
        let again = services.sync(&table, soon(30), |_, _| ()).await.unwrap();
        assert_eq!((again.unchanged, again.placed), (3, synced.placed));
    });
}

#[test]
#[ignore = "a_cluster_that_exists_... runs it, and has one"]
fn a_pod_whose_image_is_not_there_says_what_it_waits_for() {
    in_namespace("kind-api-pods", async |api, namespace| {
        let node = api.nodes().await.unwrap().remove(0);
        let pods = Pods::new(&api, &namespace);
        let spec = PodSpec {
            name: "lost".to_owned(),
            node: node.name,
            image: "nic2pod.invalid/nothing:1".to_owned(),
            pull: PullPolicy::Never,
            command: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            secret_env: Vec::new(),
            ready_port: None,
        };
        pods.create(&[spec]).await.unwrap();
        let never = pods.await_ready(&["lost"], soon(60)).await.unwrap_err();
        assert!(matches!(never, KubeError::Never { .. }), "{never}");
        assert!(never.to_string().contains("ErrImageNeverPull"), "{never}");
        let late = pods.await_ready(&["absent"], soon(1)).await.unwrap_err();
        assert!(late.to_string().contains("absent: it is not there"), "{late}");
        pods.delete(&["lost", "absent"], soon(30)).await.unwrap();
    });
}

#[test]
#[ignore = "a_cluster_that_exists_... runs it, and has one"]
fn a_manifests_objects_are_made_twice_over_and_its_daemons_say_what_they_wait_for() {
    in_namespace("kind-api-manifest", async |api, namespace| {
        let name = &namespace.name;
        let text = format!(
            "
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings, namespace: {name}}}
data: {{a: b}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: lost, namespace: {name}}}
spec:
  selector: {{matchLabels: {{app: lost}}}}
  template:
    metadata: {{labels: {{app: lost}}}}
    spec:
      containers: [{{name: c, image: 'nic2pod.invalid/nothing:1', imagePullPolicy: Never}}]
"
        );
        let manifest = Manifest::parse(&text).unwrap();
        for _ in 0..2 {
            assert_eq!(api.apply(&manifest, soon(30)).await.unwrap(), 2);
        }
        let daemons = manifest.daemons();
        assert_eq!(api.daemons(name).await.unwrap(), daemons);
        let late = api.await_daemons(&daemons, soon(10)).await.unwrap_err().to_string();
        assert!(late.contains(&format!("DaemonSet {name}/lost ready")), "{late}");
        assert!(late.contains("container c waits: ErrImageNeverPull"), "{late}");
        let strange = "{apiVersion: nic2pod.dev/v1, kind: Wire, metadata: {name: w}}";
        let unknown = api.apply(&Manifest::parse(strange).unwrap(), soon(5)).await.unwrap_err();
        assert!(unknown.to_string().contains("does not know Wire of nic2pod.dev/v1"), "{unknown}");
    });
}
