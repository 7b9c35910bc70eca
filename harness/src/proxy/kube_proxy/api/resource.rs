// SPDX-License-Identifier: Apache-2.0
//! The kinds of objects that a kube-proxy asks for, and their places under a server's address.

/// A kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Services,
    /// `discovery.k8s.io/v1`, since Kubernetes 1.21.
    EndpointSlices,
    /// `discovery.k8s.io/v1beta1`, what kube-proxy asks for up to 1.20.
    EndpointSlicesBeta,
    /// What kube-proxy asks for where it has no EndpointSlices.
    Endpoints,
    Nodes,
    /// Ranges of cluster addresses, which newer ones of mode nftables ask for (KEP-1880).
    ServiceCidrs,
}

impl Resource {
    const ALL: [(Self, &'static str, &'static str, &'static str); 6] = [
        (Self::Services, "/api/v1/services", "v1", "Service"),
        (
            Self::EndpointSlices,
            "/apis/discovery.k8s.io/v1/endpointslices",
            "discovery.k8s.io/v1",
            "EndpointSlice",
        ),
        (
            Self::EndpointSlicesBeta,
            "/apis/discovery.k8s.io/v1beta1/endpointslices",
            "discovery.k8s.io/v1beta1",
            "EndpointSlice",
        ),
        (Self::Endpoints, "/api/v1/endpoints", "v1", "Endpoints"),
        (Self::Nodes, "/api/v1/nodes", "v1", "Node"),
        (
            Self::ServiceCidrs,
            "/apis/networking.k8s.io/v1/servicecidrs",
            "networking.k8s.io/v1",
            "ServiceCIDR",
        ),
    ];

    /// The resource at a path, and the name behind it where one object is meant.
    pub(super) fn at(path: &str) -> Option<(Self, Option<&str>)> {
        Self::ALL.iter().find_map(|(resource, place, ..)| {
            let rest = path.strip_prefix(place)?;
            match rest.strip_prefix('/') {
                Some(name) if !name.is_empty() && !name.contains('/') => {
                    Some((*resource, Some(name)))
                }
                Some(_) => None,
                None => rest.is_empty().then_some((*resource, None)),
            }
        })
    }

    /// `apiVersion` of its objects.
    pub(super) fn api_version(self) -> &'static str {
        self.row().2
    }

    /// `kind` of its objects.
    pub(super) fn kind(self) -> &'static str {
        self.row().3
    }

    fn row(self) -> &'static (Self, &'static str, &'static str, &'static str) {
        Self::ALL.iter().find(|row| row.0 == self).expect("every resource has a row")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart_with_and_without_a_name() {
        assert_eq!(Resource::at("/api/v1/services"), Some((Resource::Services, None)));
        assert_eq!(Resource::at("/api/v1/nodes/node1"), Some((Resource::Nodes, Some("node1"))));
        for path in ["/api/v1/nodes/", "/api/v1/nodes/a/status", "/api/v1/nodesx", "/", ""] {
            assert_eq!(Resource::at(path), None, "{path}");
        }
    }
}
