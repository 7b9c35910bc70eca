// SPDX-License-Identifier: Apache-2.0
//! Places of the lab where a case's requests can be seen.

use super::{Hosts, road};
#[cfg(feature = "bpf")]
use crate::capture::bpf::ProbePoint;
use crate::capture::{Path, Site, TapInfo, TapPoint};
use crate::plan::Road;

/// Devices on one of the paths.
pub(super) fn taps<'a>(lab: &'a Hosts, paths: &[Path], road: Road) -> Vec<TapPoint<'a>> {
    let passed = |point: &TapPoint<'_>| {
        let tap = TapInfo::of(point);
        paths.iter().any(|path| path.passes(&tap))
    };
    devices(lab, road).into_iter().filter(passed).collect()
}

/// Devices, hooks and sockets that requests of a road may pass, and queries: of the pods, the client and
/// those that answer.
#[cfg(feature = "bpf")]
pub(super) fn probes<'a>(lab: &'a Hosts, road: Road, backends: &[usize]) -> Vec<ProbePoint<'a>> {
    let origin = road::origin(lab, road).name();
    let serves = |index: usize| backends.contains(&index) || lab.dns == Some(index);
    let veths: Vec<&str> = lab
        .pods()
        .iter()
        .enumerate()
        .filter(|(index, pod)| {
            let proxy = road.is_ingress() && *index == road::CLIENT_POD;
            serves(*index) || proxy || pod.netns.name() == origin
        })
        .filter_map(|(_, pod)| pod.veth.as_deref())
        .collect();
    let pods = lab.pods().iter().enumerate();
    let answering: Vec<&str> =
        pods.filter(|(index, _)| serves(*index)).map(|(_, pod)| pod.netns.name()).collect();
    let mut points: Vec<ProbePoint<'a>> = devices(lab, road)
        .into_iter()
        .filter(|point| match point.kind {
            Site::PodVeth => veths.contains(&point.device),
            Site::PodEth => answering.contains(&point.netns.name()),
            _ => true,
        })
        .map(|TapPoint { netns, node, device, kind }| ProbePoint {
            netns,
            node,
            device: Some(device),
            site: kind,
        })
        .collect();
    let none = None;
    for (index, node) in lab.nodes().iter().enumerate() {
        points.extend(Site::HOOKS.map(|site| ProbePoint {
            netns: &node.netns,
            node: Some(index),
            device: none,
            site,
        }));
    }
    for &pod in backends {
        let pod = &lab.pods()[pod];
        points.push(ProbePoint {
            netns: &pod.netns,
            node: Some(pod.node),
            device: none,
            site: Site::Readable,
        });
    }
    points
}

/// Every interface of the lab, from the road's point of view: the one that requests start from is
/// the client's, that of the ingress controller's pod is its.
fn devices(lab: &Hosts, road: Road) -> Vec<TapPoint<'_>> {
    let origin = road::origin(lab, road).name();
    let proxy = road.is_ingress().then(|| lab.pods()[road::CLIENT_POD].netns.name());
    lab.tap_points()
        .into_iter()
        .filter_map(|point| match point.kind {
            Site::ClientEth if point.netns.name() != origin => None,
            Site::PodEth if point.netns.name() == origin => {
                Some(TapPoint { kind: Site::ClientEth, ..point })
            }
            Site::PodEth if Some(point.netns.name()) == proxy => {
                Some(TapPoint { kind: Site::IngressEth, ..point })
            }
            _ => Some(point),
        })
        .collect()
}
