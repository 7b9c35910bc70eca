// SPDX-License-Identifier: Apache-2.0
//! Where the catalogue looks names up: a hash table, which says that there is no such name as fast as it
//! finds one. The crate's own zones in memory look through all names before they say so, and three
//! names of four that a pod asks for do not exist: the more Services, the slower each would be.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{
    LowerName, Name, RData, Record, RecordSet, RecordType, TSigResponseContext,
};
use hickory_server::server::{Request, RequestInfo};
use hickory_server::zone_handler::{
    AuthLookup, AxfrPolicy, LookupControlFlow, LookupError, LookupOptions, LookupRecords,
    ZoneHandler, ZoneType,
};

/// All names below one.
#[derive(Debug)]
pub(super) struct Names {
    origin: LowerName,
    authority: Arc<RecordSet>,
    /// Addresses by name; none of a name that only others are below.
    addresses: HashMap<LowerName, Addresses>,
}

/// Addresses of a name, by their family.
#[derive(Debug, Default)]
struct Addresses {
    a: Option<Arc<RecordSet>>,
    aaaa: Option<Arc<RecordSet>>,
}

impl Addresses {
    fn of(name: &Name, addresses: &[IpAddr], ttl_seconds: u32) -> Self {
        let set = |kind, wanted: fn(&IpAddr) -> Option<RData>| {
            let mut set = RecordSet::with_ttl(name.clone(), kind, ttl_seconds);
            addresses.iter().filter_map(wanted).for_each(|data| {
                set.add_rdata(data);
            });
            (!set.is_empty()).then(|| Arc::new(set))
        };
        let a = |address: &IpAddr| match address {
            IpAddr::V4(address) => Some(RData::A(A(*address))),
            IpAddr::V6(_) => None,
        };
        let aaaa = |address: &IpAddr| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(RData::AAAA(AAAA(*address))),
        };
        Self { a: set(RecordType::A, a), aaaa: set(RecordType::AAAA, aaaa) }
    }

    fn of_kind(&self, kind: RecordType) -> Option<Arc<RecordSet>> {
        match kind {
            RecordType::A => self.a.clone(),
            RecordType::AAAA => self.aaaa.clone(),
            _ => None,
        }
    }
}

impl Names {
    /// Without any name. `authority` is the SOA record of the name that all are to be below.
    pub(super) fn below(authority: Record) -> Self {
        let origin = LowerName::new(&authority.name);
        let addresses = HashMap::from([(origin.clone(), Addresses::default())]);
        Self { origin, authority: Arc::new(RecordSet::from(authority)), addresses }
    }

    /// Gives a name its addresses, at least one.
    pub(super) fn add(&mut self, name: &Name, addresses: &[IpAddr], ttl_seconds: u32) {
        let addresses = Addresses::of(name, addresses, ttl_seconds);
        let name = LowerName::new(name);
        let mut above = name.base_name();
        while self.origin.zone_of(&above) && !self.addresses.contains_key(&above) {
            let next = above.base_name();
            self.addresses.insert(above, Addresses::default());
            above = next;
        }
        self.addresses.insert(name, addresses);
    }

    fn find(&self, name: &LowerName, kind: RecordType) -> Result<Arc<RecordSet>, LookupError> {
        if kind == RecordType::SOA && *name == self.origin {
            return Ok(self.authority.clone());
        }
        match self.addresses.get(name) {
            Some(addresses) => addresses.of_kind(kind).ok_or(LookupError::NameExists),
            None => Err(ResponseCode::NXDomain.into()),
        }
    }
}

#[async_trait]
impl ZoneHandler for Names {
    fn zone_type(&self) -> ZoneType {
        ZoneType::Primary
    }

    fn axfr_policy(&self) -> AxfrPolicy {
        AxfrPolicy::Deny
    }

    fn origin(&self) -> &LowerName {
        &self.origin
    }

    async fn lookup(
        &self,
        name: &LowerName,
        kind: RecordType,
        _: Option<&RequestInfo<'_>>,
        options: LookupOptions,
    ) -> LookupControlFlow<AuthLookup> {
        let found = self.find(name, kind);
        LookupControlFlow::Continue(
            found.map(|set| AuthLookup::answers(LookupRecords::new(options, set), None)),
        )
    }

    async fn search(
        &self,
        request: &Request,
        options: LookupOptions,
    ) -> (LookupControlFlow<AuthLookup>, Option<TSigResponseContext>) {
        let found = match request.request_info() {
            Ok(info) => {
                let (name, kind) = (info.query.name(), info.query.query_type());
                self.lookup(name, kind, Some(&info), options).await
            }
            Err(error) => LookupControlFlow::Break(Err(error)),
        };
        (found, None)
    }

    async fn nsec_records(&self, _: &LowerName, _: LookupOptions) -> LookupControlFlow<AuthLookup> {
        LookupControlFlow::Continue(Ok(AuthLookup::default()))
    }
}
