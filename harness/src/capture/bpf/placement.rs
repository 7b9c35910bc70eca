// SPDX-License-Identifier: Apache-2.0
//! Where the probes of one lab go, and whose events are whose.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::rc::Rc;

use nix::net::if_::if_nametoindex;
use nix::sys::stat::fstat;

use super::devices::DevicePrograms;
use super::event::{Event, Place};
use super::probes::Probes;
use crate::bpf::Link;
use crate::capture::packet::{Direction, Packet};
use crate::capture::path::Path;
use crate::capture::{CaptureError, Site, TapInfo};
use crate::net::Netns;

/// A site of the lab that can be probed.
#[derive(Clone, Copy, Debug)]
pub struct ProbePoint<'a> {
    /// The host's namespace.
    pub netns: &'a Netns,
    /// Node the host is on, index from 0; `None` for the client outside.
    pub node: Option<usize>,
    /// Name of the device, where the site is one.
    pub device: Option<&'a str>,
    /// What kind of site it is.
    pub site: Site,
}

/// One probe to link.
#[derive(Debug)]
struct Target<'a> {
    netns: &'a Netns,
    /// Number of the namespace.
    number: u32,
    device: Option<&'a str>,
    place: Place,
}

/// Sites with their probes, linked while [`Placement::link`]'s answer lives.
#[derive(Debug)]
pub struct Placement {
    infos: Vec<TapInfo>,
    /// Index of a probe by namespace, place and device.
    index: HashMap<(u32, Place, u32), u16>,
    /// Namespaces whose devices are probed, with the programs for them.
    devices: HashMap<u32, Rc<DevicePrograms>>,
    /// Namespaces whose sockets are probed.
    sockets: Vec<u32>,
}

impl Placement {
    /// For the sites of some paths among `points`. With `every_site` all of them, else those that end a
    /// stage: a probe inside a stage costs and tells nothing.
    ///
    /// # Errors
    /// A device is not there, or the kernel refuses programs for one.
    pub fn new(
        probes: &Probes,
        paths: &[Path],
        points: &[ProbePoint<'_>],
        every_site: bool,
    ) -> Result<Self, CaptureError> {
        let mut placement = Self {
            infos: Vec::new(),
            index: HashMap::new(),
            devices: HashMap::new(),
            sockets: Vec::new(),
        };
        for point in points {
            let info = info(point);
            let places = places(paths, &info, every_site);
            let unseen = point.site == Site::Readable && probes.without_sockets().is_some();
            if places.is_empty() || unseen {
                continue;
            }
            let netns = inode(point.netns)?;
            let device = device_index(point)?;
            for place in places {
                let index = placement.infos.len() as u16;
                let direction = Some(place.direction());
                placement.infos.push(TapInfo { direction, ..info.clone() });
                placement.index.insert((netns, place, device), index);
            }
            if point.device.is_some() {
                placement.devices.insert(netns, probes.device_programs(netns)?);
            }
            if point.site == Site::Readable {
                placement.sockets.push(netns);
            }
        }
        Ok(placement)
    }

    /// The probes, as the joiner wants them.
    pub fn infos(&self) -> &[TapInfo] {
        &self.infos
    }

    /// Links every probe. Until the links are dropped, its packets are seen.
    ///
    /// # Errors
    /// The kernel refuses one; those linked before are gone again.
    pub fn link(
        &self,
        probes: &Probes,
        points: &[ProbePoint<'_>],
    ) -> Result<Vec<Rc<Link>>, CaptureError> {
        let mut links = Vec::new();
        for Target { netns, number, device, place } in self.targets(points)? {
            links.push(Rc::new(match device {
                Some(device) => self.devices[&number].link(netns, device, place)?,
                None => probes.link_hook(netns, place)?,
            }));
        }
        if !self.sockets.is_empty() {
            links.extend(probes.link_sockets(&self.sockets)?);
        }
        Ok(links)
    }

    fn targets<'a>(&self, points: &[ProbePoint<'a>]) -> Result<Vec<Target<'a>>, CaptureError> {
        let mut targets = Vec::new();
        for point in points.iter().filter(|point| point.site != Site::Readable) {
            let (number, index) = (inode(point.netns)?, device_index(point)?);
            for place in places_of(point.site) {
                if self.index.contains_key(&(number, place, index)) {
                    let ProbePoint { netns, device, .. } = *point;
                    targets.push(Target { netns, number, device, place });
                }
            }
        }
        Ok(targets)
    }

    /// Events as packets; those of other labs are left out.
    pub fn packets(&self, events: &[Event]) -> Vec<Packet> {
        let packet = |event: &Event| {
            let &tap = self.index.get(&(event.netns, event.place, event.device))?;
            let (time_ns, segment) = (event.time_ns, event.segment);
            Some(Packet { time_ns, segment, tap, direction: event.place.direction() })
        };
        events.iter().filter_map(packet).collect()
    }
}

fn info(point: &ProbePoint<'_>) -> TapInfo {
    let place = point.device.unwrap_or_else(|| point.site.word());
    TapInfo {
        name: format!("{}/{place}", point.netns.name()),
        node: point.node,
        site: point.site,
        direction: None,
    }
}

/// Places that a site's probes write.
fn places_of(site: Site) -> Vec<Place> {
    match site {
        Site::PreConntrack => vec![Place::PreConntrack],
        Site::Conntracked => vec![Place::Conntracked],
        Site::Translated => vec![Place::Translated],
        Site::LocalIn => vec![Place::LocalIn],
        Site::Forward => vec![Place::Forward],
        Site::LocalOut => vec![Place::LocalOut],
        Site::Postrouting => vec![Place::Postrouting],
        Site::Masqueraded => vec![Place::Masqueraded],
        Site::Readable => vec![Place::Readable],
        device if device.is_device() => vec![Place::TcIngress, Place::TcEgress],
        _ => unreachable!("every site is a device, a hook or a socket"),
    }
}

/// Places of a site that one of the paths has a hop at, and a stage that ends there.
fn places(paths: &[Path], info: &TapInfo, every_site: bool) -> Vec<Place> {
    let wanted_by = |path: &Path, direction: Direction| {
        let hops = path.hops();
        path.entries().iter().any(|&entry| {
            let host = path.host_of(info, entry);
            hops.iter().enumerate().any(|(index, hop)| {
                let here =
                    Some(hop.host) == host && hop.site == info.site && hop.direction == direction;
                let next = hops.get(index + 1).filter(|next| next.leg == hop.leg);
                let ends_stage = next.is_none_or(|next| next.stage != hop.stage);
                here && (every_site || ends_stage)
            })
        })
    };
    let wanted = |place: &Place| paths.iter().any(|path| wanted_by(path, place.direction()));
    places_of(info.site).into_iter().filter(wanted).collect()
}

/// Number of a namespace, as the kernel's own structures have it.
fn inode(netns: &Netns) -> Result<u32, CaptureError> {
    let status = fstat(netns.as_fd())
        .map_err(|errno| CaptureError::os("ask for the number of", netns.name())(errno.into()))?;
    Ok(status.st_ino as u32)
}

fn device_index(point: &ProbePoint<'_>) -> Result<u32, CaptureError> {
    let Some(device) = point.device else { return Ok(0) };
    let subject = format!("{}/{device}", point.netns.name());
    let device = device.to_owned();
    point
        .netns
        .run(move || if_nametoindex(device.as_str()))
        .map_err(|errno| CaptureError::os("find", subject)(errno.into()))
}
