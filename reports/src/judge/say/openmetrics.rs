// SPDX-License-Identifier: Apache-2.0
//! Figures in OpenMetrics' text format (openmetrics.io, version 1.0).

use std::fmt::Write;

use crate::judge::metric::{Kind, Replicates};

/// Gauges: the median over a case's replicates, in base units (seconds).
pub fn openmetrics(cases: &[Replicates]) -> String {
    let families = [
        (
            "nic2pod_time_seconds",
            "seconds",
            "Times of requests and their first packets.",
            Kind::Time,
        ),
        ("nic2pod_stage_seconds", "seconds", "Times of stages.", Kind::Stage),
        ("nic2pod_throughput", "", "Requests answered per second.", Kind::Rate),
        ("nic2pod_count", "", "Exact figures of one request.", Kind::Count),
    ];
    let mut out = String::new();
    for (family, unit, help, kind) in families {
        let _ = writeln!(out, "# TYPE {family} gauge");
        if !unit.is_empty() {
            let _ = writeln!(out, "# UNIT {family} {unit}");
        }
        let _ = writeln!(out, "# HELP {family} {help}");
        for case in cases {
            for series in case.series.iter().filter(|series| series.metric.kind == kind) {
                let mut values: Vec<f64> = series.values.iter().flatten().copied().collect();
                values.sort_by(f64::total_cmp);
                let Some(&value) = values.get(values.len() / 2) else { continue };
                let value = if unit.is_empty() { value } else { value / 1e9 };
                let (case, metric) = (label(&case.label), label(&series.metric.name));
                let _ = writeln!(out, "{family}{{case=\"{case}\",metric=\"{metric}\"}} {value}");
            }
        }
    }
    out.push_str("# EOF\n");
    out
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
