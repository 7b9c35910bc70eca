// SPDX-License-Identifier: Apache-2.0
//! `lab doctor`: every capability, what needs it, and what supplies it.

use anyhow::Result;
use harness::capture::Taps;
#[cfg(feature = "bpf")]
use harness::capture::bpf::{ProbeOptions, Probes};
use harness::kernel::{Kernel, KernelError, Uml};
use harness::lab::netns::Emulation;
use harness::net::{Netns, privilege};
use harness::plan::{CniKind, IptablesBackend, Mode, Profile};
use harness::units::Share;
use harness::{Unavailable, cni, proxy};

use crate::exit::Exit;
use crate::packages;

/// One question to the machine.
struct Finding {
    name: String,
    needed_for: &'static str,
    answer: Result<String, Unavailable>,
}

impl Finding {
    fn new(
        name: impl Into<String>,
        needed_for: &'static str,
        answer: Result<String, Unavailable>,
    ) -> Self {
        Self { name: name.into(), needed_for, answer }
    }
}

/// Asks and prints. Ends with 69 where no lab can be had at all.
pub(crate) fn doctor() -> Result<Exit> {
    let programs = packages::FOR_TESTS.map(program);
    let (lab, findings) = match privilege::enter_private_namespaces() {
        Err(unavailable) => {
            (false, vec![Finding::new("lab netns", "everything", Err(unavailable))])
        }
        Ok(privilege) => {
            let mut findings = vec![Finding::new(
                "lab netns",
                "everything",
                Ok(format!("network namespaces as {privilege}")),
            )];
            let question = Netns::create("doctor")?;
            findings.extend(CniKind::OWN.iter().map(|&kind| {
                let answer =
                    cni::of(kind).check(&question).map(|()| "the kernel has it".to_owned());
                Finding::new(format!("cni {kind}"), "--cni", answer)
            }));
            for &mode in Mode::ALL {
                let answer = proxy::mode(mode, options(IptablesBackend::Nft)).check(&question);
                findings.push(Finding::new(
                    format!("mode {mode}"),
                    "--mode",
                    answer.map(|()| "kernel and programs have it".to_owned()),
                ));
            }
            let legacy =
                proxy::mode(Mode::Iptables, options(IptablesBackend::Legacy)).check(&question);
            findings.push(Finding::new(
                "iptables legacy",
                "service.iptables_backend",
                legacy.map(|()| "kernel and programs have it".to_owned()),
            ));
            findings.push(Finding::new("wire like a network's", "lab.wire", wire(&question)?));
            let taps = Taps::check(&question);
            findings.push(Finding::new(
                "engine tap",
                "stages",
                taps.map(|()| "packet sockets".to_owned()),
            ));
            findings.push(Finding::new("engine bpf", "stages inside the node", probes(&question)));
            (true, findings)
        }
    };
    let kernels = [uml()];
    for finding in findings.into_iter().chain(kernels).chain(programs) {
        print(&finding);
    }
    Ok(if lab { Exit::Ok } else { Exit::Unavailable })
}

/// The User-Mode Linux that `--kernel uml` and `auto` would boot.
fn uml() -> Finding {
    let answer = match Uml::find(None) {
        Ok(uml) => Ok(format!("{} ({})", uml.facts().label, uml.facts().path)),
        Err(KernelError::Unavailable(unavailable)) => Err(unavailable),
        Err(error) => Err(Unavailable::new(
            "a User-Mode Linux kernel",
            error.to_string(),
            "cargo xtask lab kernel ls",
        )),
    };
    Finding::new("kernel uml", "modes the host's kernel lacks", answer)
}

/// What the engine `bpf` can see here.
#[cfg(feature = "bpf")]
fn probes(question: &Netns) -> Result<String, Unavailable> {
    let probes = Probes::load(ProbeOptions::default(), question)?;
    Ok(match (probes.interpreted(), probes.without_sockets()) {
        (Some(how), _) => format!("devices and hooks, by {how}"),
        (None, Some(why)) => format!("devices and hooks; sockets: {why}"),
        (None, None) => "devices, hooks and sockets".to_owned(),
    })
}

#[cfg(not(feature = "bpf"))]
fn probes(_: &Netns) -> Result<String, Unavailable> {
    Err(Unavailable::new(
        "a build with the feature `bpf`",
        "one without it",
        "build without --no-default-features",
    ))
}

/// Whether the wire can be made to do everything a profile may ask for.
fn wire(question: &Netns) -> Result<Result<String, Unavailable>> {
    let Profile { mut lab, seed, .. } = Profile::embedded()?;
    lab.wire.loss = Share(0.01);
    let chosen = Emulation::choose(&lab.wire, seed, lab.mtu, question);
    Ok(chosen.map(|_| "the kernel has netem".to_owned()))
}

fn options(backend: IptablesBackend) -> proxy::Options {
    proxy::Options { backend: backend.into(), ..proxy::Options::default() }
}

fn program(program: packages::Program) -> Finding {
    let answer =
        packages::find(program.name).map(|path| path.display().to_string()).ok_or_else(|| {
            Unavailable::new(
                program.name,
                "not in PATH",
                format!("apt-get install {}", program.package),
            )
        });
    Finding::new(format!("program {}", program.name), program.needed_for, answer)
}

fn print(finding: &Finding) {
    let Finding { name, needed_for, answer } = finding;
    match answer {
        Ok(found) => println!("yes  {name:30} {found}"),
        Err(Unavailable { need, found, remedy }) => {
            println!("no   {name:30} for {needed_for}: needs {need}; found {found}");
            println!("     {:30} try: {remedy}", "");
        }
    }
}
