// SPDX-License-Identifier: Apache-2.0
//! The cluster's names: a zone of the Services, and its answers as bytes.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record};
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::NetError;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{Catalog, MessageResponse};

use super::names::Names;
use crate::protocol::{DnsService, DnsSpec};

/// For how long an answer may be kept, seconds: CoreDNS's default for a cluster's names.
const TTL_SECONDS: u32 = 5;
/// The zone never changes.
const SERIAL: u32 = 1;
/// Refresh, retry and expiry of a secondary server's copy, of which there is none, seconds: what CoreDNS
/// says.
const SECONDARY_SECONDS: (i32, i32, i32) = (7200, 1800, 86_400);
/// Longest answer without EDNS, bytes (RFC 1035, section 4.2.1).
const PLAIN_BYTES_MAX: u16 = 512;

/// The names of a cluster; copies share them.
#[derive(Clone)]
pub(super) struct Zone {
    catalog: Arc<Catalog>,
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zone").finish_non_exhaustive()
    }
}

impl Zone {
    /// The names of a spec.
    ///
    /// # Errors
    /// Something in it is no name.
    pub(super) fn of(spec: &DnsSpec) -> Result<Self, String> {
        let no_name = |text: &str, error| format!("`{text}` is no name: {error}");
        let mut origin = Name::from_ascii(&spec.domain).map_err(|e| no_name(&spec.domain, e))?;
        origin.set_fqdn(true);
        let authority = authority(&origin).map_err(|error| no_name(&spec.domain, error))?;
        let mut names = Names::below(authority);
        let of_services = Name::from_ascii("svc").and_then(|svc| svc.append_domain(&origin));
        let of_services = of_services.map_err(|error| no_name(&spec.domain, error))?;
        for DnsService { name, namespace, addresses } in &spec.services {
            let full = Name::from_labels([name.as_bytes(), namespace.as_bytes()])
                .and_then(|own| own.append_domain(&of_services))
                .map_err(|error| no_name(&format!("{name}.{namespace}"), error))?;
            names.add(&full, addresses, TTL_SECONDS);
        }
        let mut catalog = Catalog::new();
        catalog.upsert(origin.into(), vec![Arc::new(names)]);
        Ok(Self { catalog: Arc::new(catalog) })
    }

    /// The answer to a datagram; `None` where it is no query, which nobody waits for.
    pub(super) async fn answer(&self, query: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
        let request = Request::from_bytes(query.to_vec(), from, Protocol::Udp).ok()?;
        let answer = Answer::default();
        self.catalog.handle_request::<_, TokioTime>(&request, answer.clone()).await;
        let bytes = std::mem::take(&mut *answer.0.lock().unwrap_or_else(PoisonError::into_inner));
        (!bytes.is_empty()).then_some(bytes)
    }
}

fn authority(origin: &Name) -> Result<Record, hickory_proto::ProtoError> {
    let of_origin = |name: &str| Name::from_ascii(name)?.append_domain(origin);
    let (refresh, retry, expire) = SECONDARY_SECONDS;
    let (server, mailbox) = (of_origin("ns.dns")?, of_origin("hostmaster")?);
    let soa = SOA::new(server, mailbox, SERIAL, refresh, retry, expire, TTL_SECONDS);
    Ok(Record::from_rdata(origin.clone(), TTL_SECONDS, RData::SOA(soa)))
}

/// Where the catalogue leaves its answer.
#[derive(Clone, Debug, Default)]
struct Answer(Arc<Mutex<Vec<u8>>>);

#[async_trait]
impl ResponseHandler for Answer {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let limit = response.edns().map_or(PLAIN_BYTES_MAX, |edns| edns.max_payload());
        let mut bytes = Vec::with_capacity(PLAIN_BYTES_MAX.into());
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(limit);
        let info = response.destructive_emit(&mut encoder)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        Ok(info)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, Instant};

    use hickory_proto::op::{Message, Query, ResponseCode};
    use hickory_proto::rr::RecordType;
    use hickory_proto::rr::rdata::A;
    use proptest::prelude::*;

    use super::*;

    fn zone(services: u32) -> Zone {
        let service = |n: u32| DnsService {
            name: format!("service-{n:05}"),
            namespace: "filler".to_owned(),
            addresses: vec![Ipv4Addr::from_bits(0x0a60_0000 + n).into()],
        };
        let web = DnsService {
            name: "web".to_owned(),
            namespace: "default".to_owned(),
            addresses: vec![IpAddr::from([10, 96, 100, 100])],
        };
        let services = (0..services).map(service).chain([web]).collect();
        let (listen, domain) = (Vec::new(), "cluster.local".to_owned());
        Zone::of(&DnsSpec { listen, domain, services }).unwrap()
    }

    fn answer(zone: &Zone, query: &[u8]) -> Option<Vec<u8>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(zone.answer(query, "10.8.0.1:4000".parse().unwrap()))
    }

    fn ask(zone: &Zone, name: &str, kind: RecordType) -> Message {
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let answer = answer(zone, &query.to_vec().unwrap()).unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!((answer.metadata.id, &answer.queries), (query.metadata.id, &query.queries));
        let ours = name.ends_with("cluster.local.");
        assert_eq!(answer.metadata.authoritative, ours, "{answer:?}");
        answer
    }

    #[test]
    fn a_service_has_its_address_no_address_of_version_six_and_nothing_else_has_a_name() {
        let zone = zone(3);
        let found = ask(&zone, "web.default.svc.cluster.local.", RecordType::A);
        assert_eq!(found.metadata.response_code, ResponseCode::NoError);
        assert_eq!(found.answers.len(), 1);
        assert_eq!(found.answers[0].data, RData::A(A::new(10, 96, 100, 100)));
        assert_eq!(found.answers[0].ttl, TTL_SECONDS);

        let none = ask(&zone, "web.default.svc.cluster.local.", RecordType::AAAA);
        assert_eq!(none.metadata.response_code, ResponseCode::NoError);
        assert_eq!((none.answers.len(), none.authorities.len()), (0, 1));

        for unknown in [
            "web.default.svc.cluster.local.default.svc.cluster.local.",
            "web.default.svc.cluster.local.svc.cluster.local.",
            "web.default.svc.cluster.local.cluster.local.",
            "api.default.svc.cluster.local.",
        ] {
            let unknown = ask(&zone, unknown, RecordType::A);
            assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain);
            // What tells how long that may be kept (RFC 2308).
            assert_eq!((unknown.answers.len(), unknown.authorities.len()), (0, 1));
        }
        // Names that others are below are names.
        for above in ["default.svc.cluster.local.", "svc.cluster.local.", "cluster.local."] {
            let above = ask(&zone, above, RecordType::A);
            assert_eq!(above.metadata.response_code, ResponseCode::NoError);
            assert_eq!((above.answers.len(), above.authorities.len()), (0, 1));
        }
        let soa = ask(&zone, "cluster.local.", RecordType::SOA);
        assert_eq!(soa.answers[0].record_type(), RecordType::SOA);
        let foreign = ask(&zone, "example.com.", RecordType::A);
        assert_eq!(foreign.metadata.response_code, ResponseCode::Refused);
    }

    #[test]
    fn ten_thousand_names_are_loaded_well_within_a_second() {
        let start = Instant::now();
        let zone = zone(10_000);
        // In a debug build, too, on a machine that is busy.
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        // The first are found, or not found, as fast as among few.
        let start = Instant::now();
        for _ in 0..1000 {
            let unknown = ask(&zone, "service-00000.filler.cluster.local.", RecordType::A);
            assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain);
        }
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        let last = ask(&zone, "service-09999.filler.svc.cluster.local.", RecordType::A);
        assert_eq!(last.answers[0].data, RData::A(A(Ipv4Addr::from_bits(0x0a60_0000 + 9999))));
    }

    #[test]
    fn what_is_no_name_is_said() {
        let service = |name: &str| DnsService {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            addresses: Vec::new(),
        };
        let spec = |name: &str| DnsSpec {
            listen: Vec::new(),
            domain: "cluster.local".to_owned(),
            services: vec![service(name)],
        };
        Zone::of(&spec("web")).unwrap();
        let long = Zone::of(&spec(&"x".repeat(64))).unwrap_err();
        assert!(long.contains("is no name"), "{long}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_or_not_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            answer(&zone(1), &bytes);
        }

        #[test]
        fn a_damaged_query_is_answered_or_not_without_a_panic(
            at in 0usize..60, value: u8, cut in 0usize..60,
        ) {
            let mut query = Message::query();
            let name = Name::from_ascii("web.default.svc.cluster.local.").unwrap();
            query.add_query(Query::query(name, RecordType::A));
            let mut bytes = query.to_vec().unwrap();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(cut);
            answer(&zone(1), &bytes);
        }
    }
}
