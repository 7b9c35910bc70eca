// SPDX-License-Identifier: Apache-2.0
//! A proxy mode installed on the lab's node.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use harness::net::Tool;
use harness::plan::{IpFamily, Mode};
use harness::proxy::{
    Installed, Matched, NodeView, Options, Probe, ProxyError, ProxyMode, ServiceTable, StandIn,
    Watch, mode,
};

use crate::lab::{Answer, Lab, NIC, NODE};

/// A mode on the lab's node.
pub(crate) struct Bench {
    pub(crate) lab: Lab,
    pub(crate) table: ServiceTable,
    agent: PathBuf,
    mode: Box<dyn ProxyMode>,
    installed: Option<Box<dyn Installed>>,
    /// Whether a program of others wrote the rules, which takes them away as it likes.
    others: bool,
}

impl Bench {
    /// `None`, with a word why, when this machine cannot.
    pub(crate) fn up(which: Mode, options: Options, table: ServiceTable) -> Option<Self> {
        Self::with(mode(which, options), Lab::up()?, table)
    }

    /// The same with a mode and a lab of one's own.
    pub(crate) fn with(mode: Box<dyn ProxyMode>, lab: Lab, table: ServiceTable) -> Option<Self> {
        let which = mode.mode();
        if let Err(missing) = mode.check(&lab.node) {
            eprintln!("SKIP {which}: {missing}");
            return None;
        }
        assert_clean(&lab, "check");
        let agent = PathBuf::from(env!("CARGO_BIN_EXE_proxy-agent"));
        let real = lab.real_table(&table);
        let texts = mode.render(&real, NODE, lab.real(NIC));
        if let Err(missing) = mode.check_texts(&lab.node, &texts) {
            eprintln!("SKIP {which} with this table: {missing}");
            return None;
        }
        assert_clean(&lab, "check of the texts");
        let installed = match mode.install(&node(&lab, &agent), &real, &texts) {
            Ok(installed) => installed,
            // An old kube-proxy takes ip_vs for absent there, and runs another mode. Elsewhere it may not.
            Err(ProxyError::Unavailable(missing))
                if which == Mode::Ipvs && !Path::new("/proc/modules").exists() =>
            {
                eprintln!("SKIP {which} on a kernel without modules: {missing}");
                return None;
            }
            Err(error) => panic!("{which}: {error}"),
        };
        Some(Self { lab, table, agent, mode, installed: Some(installed), others: false })
    }

    /// The same with a kube-proxy in place of our own rules.
    pub(crate) fn by_kube_proxy(stand_in: StandIn, table: ServiceTable) -> Option<Self> {
        Some(Self { others: true, ..Self::with(Box::new(stand_in), Lab::up()?, table)? })
    }

    /// Whether this machine can take `table`; says why not.
    pub(crate) fn takes(
        family: IpFamily,
        which: Mode,
        options: Options,
        table: &ServiceTable,
    ) -> bool {
        let Some(lab) = Lab::up_for(family) else { return false };
        let mode = mode(which, options);
        let texts = mode.render(&lab.real_table(table), NODE, lab.real(NIC));
        let refused = mode.check_texts(&lab.node, &texts);
        assert_clean(&lab, "check of the texts");
        if let Err(missing) = &refused {
            eprintln!("SKIP {which}, Services without endpoints: {missing}");
        }
        refused.is_ok()
    }

    pub(crate) fn which(&self) -> Mode {
        self.mode.mode()
    }

    pub(crate) fn prove(&mut self, probe: &Probe) -> Result<Vec<String>, ProxyError> {
        let node = node(&self.lab, &self.agent);
        let (table, probe) = (self.lab.real_table(&self.table), self.lab.real_probe(probe));
        self.installed.as_mut().expect("installed").prove(&node, &table, &probe)
    }

    /// Programs the table's last Service.
    pub(crate) fn add_last(&mut self) {
        let node = node(&self.lab, &self.agent);
        let installed = self.installed.as_mut().expect("installed");
        installed
            .add_last(&node, &self.lab.real_table(&self.table))
            .expect("a Service can be added");
    }

    /// Begins to watch which rules the next connection meets.
    pub(crate) fn watch(&mut self) -> Result<Box<dyn Watch>, ProxyError> {
        let node = node(&self.lab, &self.agent);
        self.installed.as_mut().expect("installed").watch(&node)
    }

    /// Ends a watch.
    pub(crate) fn matched(
        &self,
        watch: Box<dyn Watch>,
        probe: &Probe,
    ) -> Result<Matched, ProxyError> {
        let (table, probe) = (self.lab.real_table(&self.table), self.lab.real_probe(probe));
        watch.matched(&node(&self.lab, &self.agent), &table, &probe)
    }

    pub(crate) fn installed(&mut self) -> &mut dyn Installed {
        self.installed.as_mut().expect("installed").as_mut()
    }

    /// Has `work` done while a second mode, for the same Services, is installed too.
    pub(crate) fn beside<T>(
        &mut self,
        second: &dyn ProxyMode,
        work: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let table = self.lab.real_table(&self.table);
        let texts = second.render(&table, NODE, self.lab.real(NIC));
        let view = node(&self.lab, &self.agent);
        let installed = second.install(&view, &table, &texts).expect("installed beside");
        let outcome = work(self);
        installed.remove(&node(&self.lab, &self.agent)).expect("removed again");
        outcome
    }

    /// Removes the mode and looks for what it left.
    pub(crate) fn down(mut self) -> Lab {
        let installed = self.installed.take().expect("installed");
        let node = node(&self.lab, &self.agent);
        installed.remove(&node).expect("what was installed can be removed");
        if self.others {
            assert_leads_nowhere(&self.lab);
        } else {
            assert_clean(&self.lab, "removal");
        }
        self.lab
    }

    /// Whether a connection through the mode keeps its client's address.
    pub(crate) fn may_keep_clients(&self) -> bool {
        self.which() != Mode::Userspace
    }
}

pub(crate) fn node<'a>(lab: &'a Lab, agent: &'a PathBuf) -> NodeView<'a> {
    let (netns, scratch) = (&lab.node, Path::new("/tmp"));
    NodeView { netns, name: NODE, address: lab.real(NIC), nic: "eth0", agent, scratch }
}

/// Fails if a mode has left anything on the node.
pub(crate) fn assert_clean(lab: &Lab, after: &str) {
    let run = |program: &str, args: &[&str]| {
        Tool::new(program).args(args.iter().copied()).run_on(&lab.node).expect("the tool runs")
    };
    assert_eq!(run("nft", &["list", "ruleset"]), "", "rules left after {after}");
    for save in ["iptables-nft-save", "ip6tables-nft-save"] {
        assert!(!run(save, &[]).contains("KUBE"), "chains left after {after}");
    }
    assert!(!run("ip", &["link"]).contains("kube-ipvs0"), "device left after {after}");
    assert_eq!(run("ipset", &["list", "-n"]), "", "sets left after {after}");
    #[cfg(feature = "bpf")]
    let programs = harness::bpf::ingress_programs(&lab.node).expect("the kernel answers");
    #[cfg(feature = "bpf")]
    assert_eq!(programs, [], "programs left after {after}");
}

/// Fails if packets can still come to rules of kube-proxy's. It leaves chains behind that nothing leads to.
fn assert_leads_nowhere(lab: &Lab) {
    for save in ["iptables-nft-save", "iptables-legacy-save"] {
        let text = Tool::new(save).run_on(&lab.node).expect("the tool runs");
        let jump = text.lines().find(|line| {
            let built_in = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
            built_in.iter().any(|chain| line.starts_with(&format!("-A {chain} ")))
        });
        assert_eq!(jump, None, "left by kube-proxy's clean-up");
    }
}

/// What a proof is asked about a connection.
pub(crate) fn probe(answer: Answer, destination: SocketAddr, service: usize, port: usize) -> Probe {
    Probe { client: answer.client, destination, backend: answer.backend, service: (service, port) }
}

pub(crate) fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

pub(crate) fn answered(result: std::io::Result<Answer>, what: &str) -> Answer {
    result.unwrap_or_else(|error| panic!("{what}: {error}"))
}
