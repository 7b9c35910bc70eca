// SPDX-License-Identifier: Apache-2.0
//! Figures in Bencher's JSON (Bencher Metric Format, bencher.dev).

use serde_json::{Map, Value, json};

use crate::judge::metric::Replicates;

/// One benchmark for each case, one measure for each metric: the median over the replicates, with
/// their extremes as bounds.
pub fn bencher(cases: &[Replicates]) -> Value {
    let case = |case: &Replicates| {
        let measures: Map<String, Value> = case
            .series
            .iter()
            .filter_map(|series| {
                let mut values: Vec<f64> = series.values.iter().flatten().copied().collect();
                values.sort_by(f64::total_cmp);
                let (low, high) = (*values.first()?, *values.last()?);
                let value = values[values.len() / 2];
                let measure = json!({"value": value, "lower_value": low, "upper_value": high});
                Some((series.metric.name.replace(' ', "-"), measure))
            })
            .collect();
        (case.label.clone(), Value::Object(measures))
    };
    Value::Object(cases.iter().map(case).collect())
}
