// SPDX-License-Identifier: Apache-2.0
//! Builds records by hand: cases with figures that hang together, and a run directory to read.

use std::collections::BTreeMap;
use std::path::Path;

use record::{
    CaseFiles, CaseRecord, Conntrack, Counts, Failure, Fidelity, GuestKernel, Histogram, Host,
    IterationRecord, Leg, Manifest, Probe, ProbeEffect, Proof, Quantiles, Reason, Residual, Run,
    RunWriter, SCHEMA_VERSION, StageRecord, Status, Summary, Tool, Tuples,
};

/// A case to be, by the axes that matter here.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) lab: String,
    pub(crate) mode: String,
    pub(crate) cni: String,
    pub(crate) route: String,
    pub(crate) services: u32,
    pub(crate) workload: String,
    pub(crate) kernel: String,
}

impl Spec {
    pub(crate) fn new(mode: &str, route: &str, services: u32, workload: &str) -> Self {
        let owned = str::to_owned;
        Self {
            lab: owned("netns"),
            mode: owned(mode),
            cni: owned("bridge"),
            route: owned(route),
            services,
            workload: owned(workload),
            kernel: owned("host"),
        }
    }

    /// The same in another lab.
    pub(crate) fn in_lab(self, lab: &str) -> Self {
        Self { lab: lab.to_owned(), ..self }
    }

    /// The same on a kernel of its own.
    pub(crate) fn on(self, kernel: &str) -> Self {
        Self { kernel: kernel.to_owned(), ..self }
    }

    fn id(&self) -> String {
        let Self { lab, mode, cni, route, services, workload, kernel } = self;
        let kernel = if kernel == "host" { String::new() } else { format!("+{kernel}") };
        format!("{lab}{kernel}/{mode}+{cni}/{route}/svc-{services}/{workload}")
    }

    /// A case without figures.
    pub(crate) fn bare(&self, status: Status) -> CaseRecord {
        CaseRecord {
            id: self.id(),
            lab: self.lab.clone(),
            kernel: self.kernel.clone(),
            fidelity: None,
            mode: self.mode.clone(),
            cni: self.cni.clone(),
            route: self.route.clone(),
            services: self.services,
            workload: self.workload.clone(),
            status,
            reason: None,
            failure: None,
            proof: None,
            requests: 0,
            errors: 0,
            errors_by_kind: BTreeMap::new(),
            throughput_rps: None,
            latency_ns: None,
            service_time_ns: None,
            connect_ns: None,
            dns_ns: None,
            queries: None,
            tls_ns: None,
            upgrade_ns: None,
            handshakes: None,
            first_byte_ns: None,
            last_byte_ns: None,
            lateness_ns: None,
            first_packet_ns: None,
            legs: None,
            stages: Vec::new(),
            residual_ns: None,
            joined_ratio: None,
            probe: None,
            counts: None,
            notes: Vec::new(),
            tuples: None,
            conntrack: None,
            rules: None,
            blocks: Vec::new(),
            add_one_ms: None,
            iterations: Vec::new(),
            load_peak_rss_bytes: None,
            lab_up_ms: None,
            install_ms: None,
            prove_ms: None,
            down_ms: None,
        }
    }

    /// A skipped case.
    pub(crate) fn skipped(&self) -> CaseRecord {
        let reason = Reason {
            need: "kernel option CONFIG_IP_VS".to_owned(),
            found: "Linux 6.18.0 without it".to_owned(),
            r#try: "cargo xtask bench --kernel uml".to_owned(),
        };
        CaseRecord { reason: Some(reason), ..self.bare(Status::Skipped) }
    }

    /// A failed case.
    pub(crate) fn failed(&self) -> CaseRecord {
        let failure = Failure {
            message: "failed to install nftables on node-a: nft exited with status 1".to_owned(),
            stderr: Some(
                "/dev/stdin:3:1-9: Error: Could not process rule: No buffer space\n".to_owned(),
            ),
        };
        CaseRecord { failure: Some(failure), ..self.bare(Status::Failed) }
    }

    /// A measured case and its latency histogram of `samples` values.
    pub(crate) fn measured(&self, samples: u64) -> (CaseRecord, Histogram) {
        let newconn = self.workload.starts_with("newconn");
        let stages = stages(self, newconn);
        let sum: f64 = stages.iter().map(|stage| stage.mean_ns).sum();
        let latency =
            distribution(sum * 0.96, samples, u64::from(self.services) + self.mode.len() as u64);
        let latency_ns = latency.quantiles();
        let scaled = |share: f64| latency_ns.map(|q| scale(q, share));
        let first_packet: f64 =
            stages.iter().filter(|s| s.leg == Leg::Request).map(|s| s.mean_ns).sum::<f64>()
                - 16_000.0;
        let first_packet_ns = Some(scale(quantiles_of(&latency), first_packet / (sum * 0.96)));
        let rps = 16e9 / sum;
        let iterations = (0..7).map(|i| IterationRecord {
            sequence: i * 4,
            requests: samples / 7,
            errors: 0,
            seconds: 2.0,
            throughput_rps: rps * (0.97 + 0.01 * f64::from((i * 5) % 7)),
            latency_ns,
            first_packet_ns: first_packet_ns.filter(|_| newconn),
        });
        let case = CaseRecord {
            proof: Some(proof(self)),
            requests: samples,
            throughput_rps: Some(rps),
            latency_ns,
            service_time_ns: scaled(0.98),
            connect_ns: scaled(0.45).filter(|_| newconn),
            first_byte_ns: scaled(0.5),
            last_byte_ns: scaled(0.01),
            lateness_ns: scaled(0.02),
            first_packet_ns: first_packet_ns.filter(|_| newconn),
            stages,
            residual_ns: Some(Residual { p50: 820, p99: 9_400 }),
            joined_ratio: Some(0.998),
            probe: Some(Probe {
                engine: "tap".to_owned(),
                reason: Some("engine bpf needs CAP_BPF; found a process without it".to_owned()),
                events: samples / 16 * 22,
                dropped: 0,
                ns_per_event: Some(412.0),
                runs: None,
                ns_per_run: None,
                ns_per_empty_run: None,
                effect: Some(ProbeEffect {
                    blocks: 7,
                    p50_on_ns: 101_200.0,
                    p50_off_ns: 100_000.0,
                    p50_ratio: 1.012,
                    throughput_on_rps: 9_810.0,
                    throughput_off_rps: 9_900.0,
                    throughput_ratio: 0.991,
                }),
                sample_every: 16,
                clock_error_ns: None,
            }),
            counts: Some(Counts {
                rules_walked: Some(u64::from(self.services) + 7),
                rules_walked_beyond: Some(0),
                hooks_entered: Some(84),
                packets: Some(9),
                bytes: Some(1_713),
                conntrack_entries: Some(2),
                probe_hits: None,
            }),
            tuples: Some(Tuples { budget: 1_032_192, spent: samples }),
            conntrack: Some(Conntrack { max: 262_144, peak: 48_211 }),
            rules: Some(u64::from(self.services) * 4 + 12),
            iterations: iterations.collect(),
            load_peak_rss_bytes: Some(23_068_672),
            lab_up_ms: Some(182.4),
            install_ms: Some(14.0 + f64::from(self.services) * 0.05),
            prove_ms: Some(38.2),
            down_ms: Some(61.7),
            ..self.bare(Status::Measured)
        };
        (case, latency)
    }
}

fn proof(spec: &Spec) -> Proof {
    let evidence = match spec.mode.as_str() {
        "none" => vec!["node-a: no nat rules, no IPVS table".to_owned()],
        mode => vec![
            format!("node-a: {mode} holds {} Services, as asked", spec.services),
            "node-a: conntrack shows the probe connection translated to 10.244.1.2:8080".to_owned(),
        ],
    };
    Proof { mode: spec.mode.clone(), evidence }
}

/// Stage means that differ by mode where modes differ, and grow with Services where they do.
fn stages(spec: &Spec, newconn: bool) -> Vec<StageRecord> {
    let n = f64::from(spec.services);
    let hooks = match spec.mode.as_str() {
        "none" => 4_100.0,
        "userspace" => 61_000.0,
        "iptables" => 7_900.0 + if newconn { 19.8 * n } else { 0.0 },
        "ipvs" => 8_600.0 + if newconn { 0.02 * n } else { 0.0 },
        _ => 9_300.0 + if newconn { 0.05 * n } else { 0.0 },
    };
    let hook_name = match spec.mode.as_str() {
        "none" => "nic_rx+conntrack+route+filter",
        _ => "nic_rx+conntrack+proxy+route+filter+masq",
    };
    let remote = spec.route.ends_with("remote");
    let mut request = Vec::new();
    if newconn {
        request.push(("connect", 34_000.0 + hooks));
    }
    request.extend([("client_tx", 9_800.0), ("wire", 5_300.0), (hook_name, hooks)]);
    if remote {
        request.extend([
            ("encap", 3_900.0),
            ("fabric", 5_200.0),
            ("decap", 4_100.0),
            ("deliver", 2_800.0),
        ]);
    }
    request.extend([("cni", 3_300.0), ("pod_rx+wakeup", 17_400.0), ("app", 12_100.0)]);
    let mut response = vec![("pod_tx", 8_300.0), ("cni", 3_100.0)];
    if remote {
        response.push(("fabric", 5_100.0));
    }
    response.extend([
        (hook_name, hooks.min(9_000.0) * 0.8),
        ("wire", 5_000.0),
        ("client_rx", 16_900.0),
    ]);
    let stage = |leg| {
        move |(name, mean_ns): (&str, f64)| StageRecord {
            name: name.to_owned(),
            leg,
            count: 1234,
            p50_ns: (mean_ns * 0.93) as u64,
            p99_ns: (mean_ns * 3.1) as u64,
            mean_ns,
        }
    };
    let request = request.into_iter().map(stage(Leg::Request));
    request.chain(response.into_iter().map(stage(Leg::Response))).collect()
}

/// A skewed distribution around a median, the same for the same seed.
pub(crate) fn distribution(median_ns: f64, samples: u64, seed: u64) -> Histogram {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = move || {
        // xorshift64*, Vigna, ACM TOMS 42 (2016).
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    };
    let pairs = (0..samples).map(|_| {
        let normal: f64 = (0..6).map(|_| uniform()).sum::<f64>() - 3.0;
        let stall = if uniform() < 0.008 { 1.0 + 9.0 * uniform().powi(3) } else { 1.0 };
        let value = median_ns * (0.22 * normal).exp() * stall;
        // Three significant digits, as the recorder keeps them.
        let step = 10f64.powf(value.log10().floor() - 2.0);
        (((value / step).ceil() * step) as u64, 1)
    });
    Histogram::from_pairs(pairs)
}

fn quantiles_of(histogram: &Histogram) -> Quantiles {
    histogram.quantiles().expect("the distribution has samples")
}

fn scale(q: Quantiles, share: f64) -> Quantiles {
    let by = |ns: u64| (ns as f64 * share) as u64;
    Quantiles {
        count: q.count,
        p50: by(q.p50),
        p90: by(q.p90),
        p99: by(q.p99),
        p999: by(q.p999),
        max: by(q.max),
        mean: q.mean * share,
    }
}

pub(crate) fn manifest(run_id: &str) -> Manifest {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect();
    Manifest {
        schema_version: SCHEMA_VERSION,
        run_id: run_id.to_owned(),
        started_at: "2026-11-23T09:30:00+00:00".to_owned(),
        ended_at: Some("2026-11-23T09:33:12+00:00".to_owned()),
        command: words("cargo xtask bench --mode none,iptables,ipvs,nftables --services 1,1000"),
        profile_name: "default".to_owned(),
        profile: "[matrix]\nmodes = [\"none\", \"iptables\", \"ipvs\", \"nftables\"]\nservices = [1, 1000]\n".to_owned(),
        seed: 42,
        revision: Some("1a2b3c4d5e6f-dirty".to_owned()),
        host: host(),
        kernels: Vec::new(),
        tools: vec![
            Tool { name: "iptables".to_owned(), version: "iptables v1.8.9 (nf_tables)".to_owned() },
            Tool { name: "nft".to_owned(), version: "nftables v1.0.6 (Lester Gooch #5)".to_owned() },
        ],
        interrupted: None,
    }
}

fn host() -> Host {
    let pair = |(k, v): (&str, &str)| (k.to_owned(), v.to_owned());
    Host {
        kernel_release: "6.18.0".to_owned(),
        kernel_version: "#1 SMP PREEMPT_DYNAMIC".to_owned(),
        machine: "x86_64".to_owned(),
        cpu_model: "AMD EPYC 7B13".to_owned(),
        cpus: 2,
        governor: None,
        memory_bytes: 25_769_803_776,
        load_average: 1.37,
        sysctls: [("net.netfilter.nf_conntrack_max", "262144"), ("net.ipv4.ip_forward", "1")]
            .map(pair)
            .into(),
        kernel_config: [("CONFIG_IP_VS", "not set"), ("CONFIG_NF_TABLES", "y")].map(pair).into(),
        privilege: "root".to_owned(),
    }
}

/// A User-Mode Linux kernel.
pub(crate) fn uml(release: &str) -> GuestKernel {
    GuestKernel {
        label: format!("uml-{release}"),
        kind: "uml".to_owned(),
        release: release.to_owned(),
        path: format!("/home/me/.cache/nic2pod/kernels/{release}-1a2b3c4d/linux"),
        sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
        config_sha256: Some(
            "1a2b3c4d884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
        ),
        accelerator: "process".to_owned(),
        accelerator_reason: None,
        fidelity: Fidelity::Relative,
        memory_bytes: 2 << 30,
        cpus: 2,
        boot_ms: Some(352.0),
        host: None,
    }
}

/// A distribution's kernel on an emulated processor.
pub(crate) fn tcg() -> GuestKernel {
    GuestKernel {
        label: "qemu-6.1.0-40-amd64".to_owned(),
        kind: "qemu".to_owned(),
        release: "6.1.0-40-amd64".to_owned(),
        path: "/boot/vmlinuz-6.1.0-40-amd64".to_owned(),
        config_sha256: None,
        accelerator: "tcg".to_owned(),
        accelerator_reason: Some("a probe guest hung under KVM".to_owned()),
        fidelity: Fidelity::Functional,
        boot_ms: Some(8_140.0),
        ..uml("6.1.0")
    }
}

/// Writes the cases as a run in `dir` and reads it back, as a reader of a real one does.
pub(crate) fn run(dir: &Path, run_id: &str, cases: Vec<(CaseRecord, Option<Histogram>)>) -> Run {
    run_on(dir, run_id, Vec::new(), cases)
}

/// [`run`] with kernels of the lab's own.
pub(crate) fn run_on(
    dir: &Path,
    run_id: &str,
    kernels: Vec<GuestKernel>,
    cases: Vec<(CaseRecord, Option<Histogram>)>,
) -> Run {
    let summary = Summary {
        schema_version: SCHEMA_VERSION,
        run_id: run_id.to_owned(),
        fidelity: Fidelity::Relative,
        cases: Vec::new(),
    };
    let manifest = Manifest { kernels, ..manifest(run_id) };
    let mut writer = RunWriter::create(dir, &manifest, summary).expect("an empty directory");
    for (case, latency) in cases {
        let histograms =
            latency.map(|histogram| ("latency".to_owned(), histogram)).into_iter().collect();
        writer
            .case(case, &CaseFiles { histograms, ..CaseFiles::default() })
            .expect("a writable directory");
    }
    Run::open(dir).expect("what was just written")
}

/// Measured cases over modes and Service counts, with ipvs skipped and one nftables case failed.
pub(crate) fn mixed(
    services: &[u32],
    workloads: &[&str],
    samples: u64,
) -> Vec<(CaseRecord, Option<Histogram>)> {
    let mut cases = Vec::new();
    for workload in workloads {
        for &n in services {
            for mode in ["none", "userspace", "iptables", "ipvs", "nftables"] {
                let spec = Spec::new(mode, "nodeport-remote", n, workload);
                cases.push(match mode {
                    "ipvs" => (spec.skipped(), None),
                    _ => {
                        let (case, latency) = spec.measured(samples);
                        (case, Some(latency))
                    }
                });
            }
        }
    }
    cases
        .push((Spec::new("nftables", "clusterip-local", services[0], workloads[0]).failed(), None));
    cases
}
