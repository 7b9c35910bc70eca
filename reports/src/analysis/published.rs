// SPDX-License-Identifier: Apache-2.0
//! What others published of Services' cost, to hold a fit against. Other machines, other methods: a
//! figure of one's own need not be equal, but it should lie among them.

/// A published first packet of iptables mode, microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FirstPacket {
    /// Services.
    pub services: u32,
    /// Median.
    pub p50_us: u32,
    /// 90th percentile.
    pub p90_us: u32,
    /// 99th percentile.
    pub p99_us: u32,
}

/// Where [`FIRST_PACKETS`] are from.
pub const FIRST_PACKETS_SOURCE: &str = "D. Winship, “NFTables mode for kube-proxy”, Kubernetes blog, \
     28 February 2025, kubernetes.io/blog/2025/02/28/nftables-kube-proxy/, read off the bars of \
     its chart for iptables (within 2 µs). It times a connection’s first packet and its answer at \
     conntrack, so the pod’s own time is in it.";

/// First packets through iptables mode.
pub const FIRST_PACKETS: [FirstPacket; 3] = [
    FirstPacket { services: 5_000, p50_us: 49, p90_us: 121, p99_us: 154 },
    FirstPacket { services: 10_000, p50_us: 63, p90_us: 190, p99_us: 259 },
    FirstPacket { services: 30_000, p50_us: 274, p90_us: 495, p99_us: 716 },
];

/// A cost of one more Service under iptables mode, worked out of published figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PerService {
    /// Least and most, nanoseconds.
    pub ns: (f64, f64),
    /// How it follows from what was published.
    pub how: &'static str,
    /// Who published it, and where.
    pub source: &'static str,
}

/// Costs of one more Service under iptables mode.
pub const PER_SERVICE: [PerService; 4] = [
    PerService {
        ns: (9.4, 22.6),
        how: "slopes of the p50 (9.4), p90 (15.0) and p99 (22.6) above; the median of evenly spread \
              Services walks half of the chain, the p99 nearly all of it",
        source: "Kubernetes blog, as above",
    },
    PerService {
        ns: (10.3, 10.7),
        how: "loss of new connections a second at 5,000 and 10,000 Services, as time of four cores",
        source: "imroc/tke-guide, docs/networking/cilium/appendix/network-benchmark.md, \
                 github.com/imroc/tke-guide",
    },
    PerService {
        ns: (13.5, 17.5),
        how: "27 to 35 % of a core at 1,000 connections a second and 10,000 Services of two rules each",
        source: "Tigera, “Comparing kube-proxy modes: iptables or IPVS?”, \
                 www.tigera.io/blog/comparing-kube-proxy-modes-iptables-or-ipvs/",
    },
    PerService {
        ns: (26.0, 26.0),
        how: "164 to 190 µs to connect from 4 to 1,000 Services",
        source: "devfloor9/engineering-playbook, docs/benchmarks/cni-performance-comparison.md, \
                 github.com/devfloor9/engineering-playbook",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fit::least_squares;

    #[test]
    fn the_slopes_worked_out_are_those_of_the_published_figures() {
        let slope = |of: fn(&FirstPacket) -> u32| {
            let points =
                FIRST_PACKETS.iter().map(|p| (f64::from(p.services), f64::from(of(p)) * 1e3));
            least_squares(&points.collect::<Vec<_>>()).unwrap().slope
        };
        let slopes = [slope(|p| p.p50_us), slope(|p| p.p90_us), slope(|p| p.p99_us)];
        for (slope, said) in slopes.iter().zip([9.4, 15.0, 22.6]) {
            assert!((slope - said).abs() < 0.1, "{slope} is not {said}");
        }
    }
}
