// SPDX-License-Identifier: Apache-2.0
//! Figures as lines of Go's benchmarks (golang.org/design/14313-benchmark-format), for benchstat.

use std::fmt::Write;

use crate::judge::metric::{Kind, Replicates};

/// One line for each replicate, all metrics on it.
pub fn gobench(cases: &[Replicates]) -> String {
    let mut out = String::new();
    for case in cases {
        for block in 0..case.blocks {
            let mut line = format!("Benchmark{} 1", name(&case.label));
            let mut any = false;
            for series in &case.series {
                let Some(value) = series.values[block] else { continue };
                let unit = match series.metric.kind {
                    Kind::Time | Kind::Stage => "ns",
                    Kind::Rate => "req/s",
                    Kind::Count => "n",
                };
                let metric = series.metric.name.replace([' ', '\t', '\n'], "-");
                let _ = write!(line, " {value} {metric}-{unit}");
                any = true;
            }
            if any {
                out.push_str(&line);
                out.push('\n');
            }
        }
    }
    out
}

/// A name begins with an upper-case letter and has no white space.
fn name(label: &str) -> String {
    let mut name: String =
        label.chars().map(|c| if c.is_whitespace() || c.is_control() { '_' } else { c }).collect();
    if let Some(first) = name.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    name
}
