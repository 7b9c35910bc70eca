// SPDX-License-Identifier: Apache-2.0
//! A stub resolver, as glibc's is in a pod: the search path, A and AAAA asked at the same time from one
//! socket, a new socket for each name of the path (`resolv/res_query.c`, `resolv/res_send.c`).
//!
//! Unlike glibc's it asks once: what is lost is an error when the request's time is over. glibc would ask
//! again after five seconds, which is as long as a request is waited for.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;

use hickory_proto::rr::Name;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use tokio::net::UdpSocket;

use super::failure::Failure;
use super::tuples::Tuples;
use crate::clock::now_ns;
use crate::dns::{ANSWER_BYTES_MAX, Both, Questions, name};
use crate::protocol::{Answer, LoadResolve, Lookup, Queries, SAMPLE_TOS, Sources};
use crate::set_service_type;

/// Resolves one name again and again.
#[derive(Debug)]
pub(super) struct Resolver {
    spec: LoadResolve,
    /// The names that are tried, in order.
    candidates: Vec<Questions>,
    /// Sources of queries: like those of connections, each is used once.
    tuples: RefCell<Tuples>,
    ids: RefCell<SmallRng>,
    queries: Cell<Queries>,
}

impl Resolver {
    /// Of a spec; ids are drawn from `seed`.
    ///
    /// # Errors
    /// Something in it is no name.
    pub(super) fn new(spec: &LoadResolve, sources: &Sources, seed: u64) -> Result<Self, String> {
        let candidates = names(spec)?.into_iter().map(Questions::new).collect::<Result<_, _>>()?;
        Ok(Self {
            spec: spec.clone(),
            candidates,
            tuples: RefCell::new(Tuples::new(sources)),
            ids: RefCell::new(SmallRng::seed_from_u64(seed)),
            queries: Cell::default(),
        })
    }

    /// Resolutions that sources are left for, at most.
    pub(super) fn left(&self) -> u64 {
        self.tuples.borrow().left() / self.candidates.len() as u64
    }

    /// Queries since the last call.
    pub(super) fn take_queries(&self) -> Queries {
        self.queries.take()
    }

    /// Tries one name of the path after the other, and checks the address that it finds. Queries of a
    /// connection that is sampled carry the mark it carries, and are returned.
    pub(super) async fn resolve(&self, sampled: bool) -> Result<Vec<Lookup>, Failure> {
        let mut failure = Failure::DnsNxdomain;
        let mut lookups = Vec::new();
        for candidate in &self.candidates {
            let lookup = self.ask(candidate, sampled).await?;
            // One of them is for addresses of the family that is connected to.
            let wanted = usize::from(self.spec.address.is_ipv6());
            let (of_wanted, of_other) = (lookup.answers[wanted], lookup.answers[1 - wanted]);
            if sampled {
                lookups.push(lookup);
            }
            match of_wanted {
                Answer::Address(address) if address == self.spec.address => return Ok(lookups),
                Answer::Address(_) => return Err(Failure::DnsAddress),
                Answer::Refused => return Err(Failure::DnsRefused),
                Answer::Other => return Err(Failure::DnsOther),
                // The path is gone on with, as by glibc, and the failure remembered.
                Answer::ServFail => failure = Failure::DnsServfail,
                Answer::NoData | Answer::NxDomain if of_other == Answer::ServFail => {
                    failure = Failure::DnsServfail;
                }
                Answer::NoData | Answer::NxDomain => {}
            }
        }
        Err(failure)
    }

    /// Asks for one name, and waits for both answers.
    async fn ask(&self, candidate: &Questions, sampled: bool) -> Result<Lookup, Failure> {
        let (socket, source) = self.socket(sampled)?;
        let ids = self.two_ids();
        let (mut sent_ns, mut answered_ns) = ([0; 2], [0; 2]);
        for (message, sent_ns) in candidate.messages(ids).iter().zip(&mut sent_ns) {
            *sent_ns = now_ns();
            socket.send(message).await.map_err(|error| Failure::of_query(&error))?;
            self.count(|queries| queries.asked += 1);
        }
        let mut answers: Both<Option<Answer>> = [None; 2];
        let mut buffer = [0; ANSWER_BYTES_MAX];
        loop {
            if let [Some(of_a), Some(of_aaaa)] = answers {
                let answers = [of_a, of_aaaa];
                return Ok(Lookup { source, ids, sent_ns, answered_ns, answers });
            }
            // The socket is connected: the kernel hands over what its own peer sent, and nothing else.
            let length = socket.recv(&mut buffer).await;
            let (length, at_ns) = (length.map_err(|error| Failure::of_query(&error))?, now_ns());
            match candidate.answer(ids, &buffer[..length]) {
                Some((which, answer)) if answers[which].is_none() => {
                    answers[which] = Some(answer);
                    answered_ns[which] = at_ns;
                    self.count(|queries| answer.count(queries));
                }
                _ => self.count(|queries| queries.ignored += 1),
            }
        }
    }

    /// A socket at the next source that is free, connected to the server, and that source.
    fn socket(&self, sampled: bool) -> Result<(UdpSocket, SocketAddr), Failure> {
        let (bound, source) = loop {
            let tuple = self.tuples.borrow_mut().next().ok_or(Failure::TuplesExhausted)?;
            match std::net::UdpSocket::bind(tuple) {
                Ok(socket) => break (socket, tuple),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(_) => return Err(Failure::DnsOther),
            }
        };
        let prepare = || {
            if sampled {
                set_service_type(&bound, source, SAMPLE_TOS)?;
            }
            bound.set_nonblocking(true)?;
            bound.connect(self.spec.server)
        };
        prepare().map_err(|error| Failure::of_query(&error))?;
        let socket = UdpSocket::from_std(bound).map_err(|error| Failure::of_query(&error))?;
        Ok((socket, source))
    }

    /// Two ids that differ: answers are told apart by them.
    fn two_ids(&self) -> Both<u16> {
        let mut ids = self.ids.borrow_mut();
        let drawn = ids.next_u32();
        let (first, second) = ((drawn >> 16) as u16, drawn as u16);
        [first, if second == first { !second } else { second }]
    }

    fn count(&self, with: impl FnOnce(&mut Queries)) {
        let mut queries = self.queries.get();
        with(&mut queries);
        self.queries.set(queries);
    }
}

/// The names that are tried for a spec's, in order and whole, each by a [`Lookup`] of its own.
///
/// # Errors
/// Something in it is no name.
pub fn tried(spec: &LoadResolve) -> Result<Vec<String>, String> {
    Ok(names(spec)?.iter().map(Name::to_string).collect())
}

/// The same in the library's words: with fewer than `ndots` dots behind each domain first,
/// with as many or more by itself first; one that ends with a dot by itself only (`resolv.conf(5)`).
fn names(spec: &LoadResolve) -> Result<Vec<Name>, String> {
    let whole = name(&spec.name)?;
    if spec.name.ends_with('.') {
        return Ok(vec![whole]);
    }
    let dots = spec.name.bytes().filter(|byte| *byte == b'.').count();
    let searched = spec.search.iter().map(|domain| name(&format!("{}.{domain}", spec.name)));
    let mut names = searched.collect::<Result<Vec<_>, _>>()?;
    let place = if dots < usize::from(spec.ndots) { names.len() } else { 0 };
    names.insert(place, whole);
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn spec(name: &str) -> LoadResolve {
        LoadResolve {
            server: "127.0.0.1:53".parse().unwrap(),
            name: name.to_owned(),
            search: ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"]
                .map(str::to_owned)
                .to_vec(),
            ndots: 5,
            address: IpAddr::from([10, 96, 100, 100]),
        }
    }

    fn tried(name: &str) -> Vec<String> {
        names(&spec(name)).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_with_few_dots_are_tried_with_the_search_path_first_and_others_last() {
        assert_eq!(
            tried("web.default.svc.cluster.local"),
            [
                "web.default.svc.cluster.local.default.svc.cluster.local.",
                "web.default.svc.cluster.local.svc.cluster.local.",
                "web.default.svc.cluster.local.cluster.local.",
                "web.default.svc.cluster.local.",
            ]
        );
        assert_eq!(tried("web")[0], "web.default.svc.cluster.local.");
        assert_eq!(tried("a.b.c.d.e.f")[0], "a.b.c.d.e.f.");
        assert_eq!(tried("web.default.svc.cluster.local.").len(), 1);
        names(&spec(&"x".repeat(64))).unwrap_err();
        names(&spec("a..b")).unwrap_err();
    }

    proptest! {
        #[test]
        fn any_name_makes_a_path_or_is_refused(name in ".{0,80}", ndots: u8) {
            let spec = LoadResolve { ndots, ..spec(&name) };
            if let Ok(names) = names(&spec) {
                prop_assert!(names.len() == 1 || names.len() == 4);
                for name in names {
                    let _ = Questions::new(name);
                }
            }
        }
    }
}
