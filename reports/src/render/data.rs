// SPDX-License-Identifier: Apache-2.0
//! The figures of a chart of lines as JSON, for the page's script to draw anew where a reader zooms in,
//! changes a scale or selects modes. Bars need no such thing: their marks say what they are.

use serde_json::{Value, json};

use crate::render::chart::{Along, Chart, LatencyChart, NINES, PlotChart};
use crate::render::palette;
use crate::render::pen::Dash;

/// The chart's figures, safe in a script element; empty where the script does not draw its kind.
pub(crate) fn of(chart: &Chart) -> String {
    match chart {
        Chart::Latency(chart) => in_script(&latency(chart)),
        Chart::Plot(chart) => in_script(&plot(chart)),
        Chart::Stages(_) | Chart::Throughput(_) => String::new(),
    }
}

fn latency(chart: &LatencyChart) -> Value {
    let series = chart.curves.iter().map(|curve| {
        let line = curve.points.iter().map(|p| json!([round(p.nines), p.value_ns]));
        let spots = curve.spreads.iter().map(|one| match one.range_ns {
            Some((low, high)) => json!([round(one.nines), one.ns, low, high]),
            None => json!([round(one.nines), one.ns]),
        });
        json!({
            "l": curve.label, "m": curve.mode, "c": palette::css(curve.colour), "d": "",
            "p": spots.collect::<Value>(), "f": line.collect::<Value>(),
        })
    });
    let ticks = NINES.iter().map(|(at, name)| json!([at, name]));
    json!({
        "x": { "title": "percentile of requests", "ticks": ticks.collect::<Value>() },
        "y": { "title": "latency from the intended send time", "unit": "ns", "log": true },
        "s": series.collect::<Value>(),
    })
}

fn plot(chart: &PlotChart) -> Value {
    let series = chart.trails.iter().map(|trail| {
        let spots = trail.spots.iter().map(|spot| {
            let mut values = vec![spot.x, round(spot.y)];
            values.extend(spot.range.into_iter().flat_map(|(low, high)| [round(low), round(high)]));
            json!(values)
        });
        let changes = trail.spots.iter().filter(|spot| spot.changed).map(|spot| json!(spot.x));
        let fit = trail.fit.iter().map(|fitted| {
            let mut values = vec![round(fitted.x), round(fitted.y)];
            let band = fitted.band.into_iter();
            values.extend(band.flat_map(|(low, high)| [round(low), round(high)]));
            json!(values)
        });
        json!({
            "l": trail.label, "m": trail.mode, "c": palette::css(trail.colour), "d": strokes(trail.dash),
            "p": spots.collect::<Value>(), "f": fit.collect::<Value>(), "j": trail.fit.is_empty(),
            "k": changes.collect::<Value>(),
        })
    });
    let x = match &chart.along {
        Along::Services => json!({
            "title": chart.x_title, "name": "Services", "log": chart.log_x(), "scales": true,
        }),
        Along::Percent => json!({ "title": chart.x_title, "log": false, "scales": true }),
        Along::Names(names) => {
            let ticks = names.iter().enumerate().map(|(at, name)| json!([at, name]));
            json!({ "title": chart.x_title, "ticks": ticks.collect::<Value>() })
        }
    };
    json!({
        "x": x,
        "y": { "title": chart.y_title, "unit": chart.quantity.word(), "log": false },
        "s": series.collect::<Value>(),
    })
}

fn strokes(dash: Dash) -> &'static str {
    match dash {
        Dash::Solid => "",
        Dash::Dashed => "9 5",
        Dash::Dotted => "2 5",
    }
}

/// Four digits after the point are more than any figure has.
fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// JSON that cannot end the script element it stands in, nor open a comment there (HTML living
/// standard, 4.12.1.3): no `<` at all; and no separators that are line ends to some parsers.
pub(crate) fn in_script(value: &Value) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_reads_back_and_none_ends_the_element(text in r"\PC{0,40}(</script>|<!--)?[\x00-\x20\u{2028}]{0,3}") {
            let value = json!({ "l": text });
            let safe = in_script(&value);
            prop_assert!(!safe.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{safe}");
            prop_assert_eq!(serde_json::from_str::<Value>(&safe).unwrap(), value);
        }
    }
}
