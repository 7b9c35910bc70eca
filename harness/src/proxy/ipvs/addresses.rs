// SPDX-License-Identifier: Apache-2.0
//! The dummy device that holds the addresses of all Services, so that the kernel delivers their
//! traffic locally, where ip_vs waits for it.

use std::collections::HashSet;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use nix::libc;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::{Handle, LinkDummy};

use super::super::error::one_line;
use crate::Unavailable;
use crate::net::{Cidr, NetError, Netns};
use crate::plan::IpFamily;

/// Name of the device, kube-proxy's.
pub(super) const DEVICE: &str = "kube-ipvs0";

/// Makes the device. It stays down, as kube-proxy leaves it: its addresses are local all the same
/// (`fib_add_ifaddr` in the kernel's net/ipv4/fib_frontend.c), and it answers no ARP request. Both families'
/// addresses are on the one, whoever made it first: whether it was this is said.
///
/// # Errors
/// The kernel has no dummy devices.
pub(super) fn make_device(netns: &Netns) -> Result<bool, NetError> {
    with_handle(netns, |handle| async move {
        let dummy = LinkDummy::new(DEVICE).build();
        match handle.link().add(dummy).execute().await {
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::EEXIST => {
                Ok(false)
            }
            made => made.map(|()| true).map_err(netlink("make", DEVICE)),
        }
    })
}

/// Removes the device and with it its addresses.
///
/// # Errors
/// The kernel refuses.
pub(super) fn remove_device(netns: &Netns) -> Result<(), NetError> {
    with_handle(netns, |handle| async move {
        let index = index(&handle).await?;
        handle.link().del(index).execute().await.map_err(netlink("remove", DEVICE))
    })
}

/// Gives the device addresses.
///
/// # Errors
/// The kernel refuses one.
pub(super) fn add(netns: &Netns, addresses: Vec<IpAddr>) -> Result<(), NetError> {
    with_handle(netns, |handle| async move {
        let index = index(&handle).await?;
        for address in addresses {
            let mut request = handle.address().add(index, address, Cidr::host(address).prefix);
            // The library adds a broadcast address, which a single address does not have.
            let attributes = &mut request.message_mut().attributes;
            attributes.retain(|attribute| !matches!(attribute, AddressAttribute::Broadcast(_)));
            request.execute().await.map_err(netlink("add", &address.to_string()))?;
        }
        Ok(())
    })
}

/// Takes addresses off the device.
///
/// # Errors
/// The kernel refuses, or one is not there.
pub(super) fn remove(netns: &Netns, addresses: Vec<IpAddr>) -> Result<(), NetError> {
    with_handle(netns, |handle| async move {
        let index = index(&handle).await?;
        let addresses: HashSet<_> = addresses.into_iter().collect();
        let on_device = handle.address().get().set_link_index_filter(index).execute();
        let all: Vec<_> = on_device.try_collect().await.map_err(netlink("list", DEVICE))?;
        for message in all {
            let is_ours = |attribute: &AddressAttribute| match attribute {
                AddressAttribute::Address(address) => addresses.contains(address),
                _ => false,
            };
            if message.attributes.iter().any(is_ours) {
                let removal = handle.address().del(message).execute();
                removal.await.map_err(netlink("take an address off", DEVICE))?;
            }
        }
        Ok(())
    })
}

/// How many addresses of a family the device has; none if there is no such device.
///
/// # Errors
/// The kernel refuses to list them.
pub(super) fn count(netns: &Netns, family: IpFamily) -> Result<usize, NetError> {
    let wanted = match family {
        IpFamily::Ipv4 => AddressFamily::Inet,
        IpFamily::Ipv6 => AddressFamily::Inet6,
    };
    with_handle(netns, move |handle| async move {
        let Ok(index) = index(&handle).await else { return Ok(0) };
        let addresses = handle.address().get().set_link_index_filter(index).execute();
        let all: Vec<_> = addresses.try_collect().await.map_err(netlink("list", DEVICE))?;
        Ok(all.iter().filter(|address| address.header.family == wanted).count())
    })
}

/// Whether the kernel has dummy devices.
pub(super) fn check(scratch: &Netns) -> Result<(), Unavailable> {
    make_device(scratch).and_then(|_| remove_device(scratch)).map_err(|error| {
        Unavailable::new(
            "kernel option CONFIG_DUMMY",
            one_line(&error),
            "modprobe dummy, or boot a kernel that has it",
        )
    })
}

async fn index(handle: &Handle) -> Result<u32, NetError> {
    let mut links = handle.link().get().match_name(DEVICE.to_owned()).execute();
    let link = links.try_next().await.map_err(netlink("find", DEVICE))?;
    link.map(|link| link.header.index)
        .ok_or_else(|| NetError::os("find", DEVICE)(std::io::ErrorKind::NotFound.into()))
}

fn netlink(op: &'static str, subject: &str) -> impl FnOnce(rtnetlink::Error) -> NetError {
    let subject = subject.to_owned();
    move |source| NetError::Netlink { op, subject, source }
}

/// Runs `work` with a connection to rtnetlink in the namespace.
fn with_handle<F, T>(
    netns: &Netns,
    work: impl FnOnce(Handle) -> F + Send + 'static,
) -> Result<T, NetError>
where
    F: Future<Output = Result<T, NetError>>,
    T: Send + 'static,
{
    netns.block_on(move || async move {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(NetError::os("open", "rtnetlink"))?;
        let connection = tokio::spawn(connection);
        let outcome = work(handle).await;
        connection.abort();
        outcome
    })
}
