// SPDX-License-Identifier: Apache-2.0
//! Ten thousand Services: the mode costs what its tool costs, and is proved and gone all the same.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use harness::net::{Netns, Tool};
use harness::plan::{Mode, Position};
use harness::proxy::{Fill, Options, RuleText, ServiceTable, mode};

use crate::bench::{Bench, answered, at, probe};
use crate::lab::{NIC, NODE, PODS, PORTS};

const SERVICES: u32 = 10_000;
const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 100)), 80);

/// So many Services, the last of which has the first pod as its endpoint.
fn table(services: u32) -> ServiceTable {
    let fill = |services| Fill { services, endpoints: 2, position: Position::Last, seed: 1 };
    let mut service = fill(1).table(Vec::new()).expect("fits").services.remove(0);
    service.name = "measured".to_owned();
    service.cluster_ip = VIP.ip();
    service.ports[0].endpoints.truncate(1);
    service.ports[0].endpoints[0].address = at(PODS[0], PORTS[0]);
    service.ports[0].endpoints[0].node = NODE.to_owned();
    fill(services).table(vec![service]).expect("fits")
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let value = work();
    (start.elapsed(), value)
}

/// The tools alone, with the same input.
fn bare(texts: &[RuleText]) -> Duration {
    let node = Netns::create("bare").expect("one could be made before");
    timed(|| {
        for text in texts {
            // Mode ebpf writes the kernel's maps itself.
            let Some((program, args)) = text.tool.split_first() else { continue };
            let tool = Tool::new(program).args(args).stdin(text.text.as_str());
            tool.run_on(&node).expect("the tool takes the text");
        }
    })
    .0
}

fn is_proved_and_costs_what_its_tool_costs(which: Mode) {
    // The same with a hundredth of them, for how fast lab, check and looks are here.
    let (small, bench) = timed(|| Bench::up(which, Options::default(), table(SERVICES / 100)));
    let Some(bench) = bench else { return };
    bench.down();
    let table = table(SERVICES);
    let texts = mode(which, Options::default()).render(&table, NODE, NIC);
    let (up, bench) = timed(|| Bench::up(which, Options::default(), table));
    let Some(mut bench) = bench else { return };
    let answer = answered(bench.lab.ask(VIP), "the last Service");
    let last = bench.table.services.len() - 1;
    let (proved, evidence) = timed(|| bench.prove(&probe(answer, VIP, last, 0)));
    eprintln!("{which}: {}", evidence.expect("proved").join("\n  "));

    let mut added = bench.table.services[last].clone();
    added.name = "added".to_owned();
    added.cluster_ip = IpAddr::from([10, 96, 0, 101]);
    bench.table.services.push(added);
    let (added, ()) = timed(|| bench.add_last());
    let destination = SocketAddr::new(IpAddr::from([10, 96, 0, 101]), 80);
    let answer = answered(bench.lab.ask(destination), "the added Service");
    bench.prove(&probe(answer, destination, last + 1, 0)).expect("proved after the addition");
    let (down, _lab) = timed(|| bench.down());
    let bare = bare(&texts);
    eprintln!(
        "{which}: up (lab, check, install) {up:?}, the tools alone {bare:?}, proof {proved:?}, \
         addition {added:?}, removal {down:?}"
    );
    // What is around the tools is the lab, a check and a few looks, which grow with the Services at
    // most, and not another pass over the rules for each. The machine may be busy: the bound is wide.
    assert!(up < bare * 4 + small * 100, "{up:?} against {bare:?} and {small:?}");
    assert!(added < up, "one Service more {added:?}, all of them {up:?}");
}

#[test]
fn iptables_with_ten_thousand_services_is_proved_and_costs_what_its_tool_costs() {
    is_proved_and_costs_what_its_tool_costs(Mode::Iptables);
}

#[test]
fn ipvs_with_ten_thousand_services_is_proved_and_costs_what_its_tools_cost() {
    is_proved_and_costs_what_its_tool_costs(Mode::Ipvs);
}

#[test]
fn ebpf_with_ten_thousand_services_is_proved_and_takes_next_to_nothing() {
    is_proved_and_costs_what_its_tool_costs(Mode::Ebpf);
}
