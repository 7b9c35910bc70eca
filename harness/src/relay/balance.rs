// SPDX-License-Identifier: Apache-2.0
//! Round robin with client affinity, as kube-proxy's userspace mode chose endpoints
//! (`NextEndpoint` in `pkg/proxy/userspace/roundrobin.go`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::spec::Portal;

/// Clients remembered at most. kube-proxy had no bound; beyond this one, the expired are dropped
/// and then nobody new is remembered.
const CLIENTS: usize = 65_536;

/// Chooses the endpoints of one port.
#[derive(Debug)]
pub(super) struct Balance {
    endpoints: Vec<SocketAddr>,
    next: usize,
    affinity: Option<Affinity>,
}

#[derive(Debug)]
struct Affinity {
    timeout: Duration,
    clients: HashMap<IpAddr, (usize, Instant)>,
}

impl Balance {
    pub(super) fn new(portal: &Portal) -> Self {
        let affinity = portal.affinity_seconds.map(|seconds| Affinity {
            timeout: Duration::from_secs(seconds),
            clients: HashMap::new(),
        });
        Self { endpoints: portal.endpoints.clone(), next: 0, affinity }
    }

    /// Index and address of the endpoint for a connection from `client`; `afresh` when the one it
    /// stayed with did not answer. `None` when there is no endpoint.
    pub(super) fn choose(
        &mut self,
        client: IpAddr,
        afresh: bool,
        now: Instant,
    ) -> Option<(usize, SocketAddr)> {
        let remembered =
            self.affinity.as_mut().filter(|_| !afresh).and_then(|one| one.recall(client, now));
        let index = match remembered {
            Some(index) => index,
            None => {
                let index = self.next;
                self.next = (index + 1).checked_rem(self.endpoints.len())?;
                if let Some(affinity) = &mut self.affinity {
                    affinity.remember(client, index, now);
                }
                index
            }
        };
        Some((index, self.endpoints[index]))
    }
}

impl Affinity {
    fn recall(&mut self, client: IpAddr, now: Instant) -> Option<usize> {
        let (index, last) = self.clients.get_mut(&client)?;
        if now.duration_since(*last) >= self.timeout {
            return None;
        }
        *last = now;
        Some(*index)
    }

    fn remember(&mut self, client: IpAddr, index: usize, now: Instant) {
        if self.clients.len() >= CLIENTS && !self.clients.contains_key(&client) {
            let timeout = self.timeout;
            self.clients.retain(|_, (_, last)| now.duration_since(*last) < timeout);
            if self.clients.len() >= CLIENTS {
                return;
            }
        }
        self.clients.insert(client, (index, now));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::plan::IpFamily;

    fn balance(endpoints: u8, affinity_seconds: Option<u64>) -> Balance {
        let endpoints = (0..endpoints)
            .map(|pod| SocketAddr::new(IpAddr::from([10, 244, 0, pod]), 8080))
            .collect();
        Balance::new(&Portal {
            listen_port: 1,
            family: IpFamily::Ipv4,
            endpoints,
            affinity_seconds,
            one_by_one: true,
            proxy_protocol: false,
        })
    }

    fn client(last: u8) -> IpAddr {
        IpAddr::from([10, 8, 0, last])
    }

    fn chosen(balance: &mut Balance, from: u8, afresh: bool, now: Instant) -> usize {
        balance.choose(client(from), afresh, now).expect("an endpoint").0
    }

    #[test]
    fn endpoints_take_turns() {
        let (mut balance, now) = (balance(3, None), Instant::now());
        let turns: Vec<_> = (0..7).map(|_| chosen(&mut balance, 1, false, now)).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn a_client_stays_until_its_timeout_and_leaves_when_told_to() {
        let (mut balance, start) = (balance(2, Some(10)), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(chosen(&mut balance, 1, false, start), 0);
        assert_eq!(chosen(&mut balance, 2, false, start), 1);
        assert_eq!(chosen(&mut balance, 1, false, after(9)), 0);
        // The timeout runs from the last connection, not from the first.
        assert_eq!(chosen(&mut balance, 1, false, after(18)), 0);
        assert_eq!(chosen(&mut balance, 2, false, after(18)), 0, "expired, so the next in turn");
        assert_eq!(chosen(&mut balance, 1, true, after(18)), 1);
        assert_eq!(chosen(&mut balance, 1, false, after(19)), 1);
    }

    #[test]
    fn without_endpoints_there_is_nothing_to_choose() {
        assert_eq!(balance(0, Some(10)).choose(client(1), false, Instant::now()), None);
    }

    #[test]
    fn the_memory_of_clients_is_bounded() {
        let (mut balance, now) = (balance(2, Some(10)), Instant::now());
        for index in 0..CLIENTS as u32 + 10 {
            balance.choose(Ipv4Addr::from_bits(index).into(), false, now);
        }
        assert_eq!(balance.affinity.as_ref().expect("has affinity").clients.len(), CLIENTS);
        balance.choose(client(1), false, now + Duration::from_secs(11));
        assert_eq!(balance.affinity.expect("has affinity").clients.len(), 1);
    }
}
