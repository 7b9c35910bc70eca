// SPDX-License-Identifier: Apache-2.0
//! One colour for each mode and each stage, in every chart of every report.

use plotters::style::RGBColor;

/// Lettering.
pub(crate) const INK: RGBColor = RGBColor(0x1f, 0x24, 0x2b);
/// Lettering that stands back.
pub(crate) const MUTED: RGBColor = RGBColor(0x5b, 0x63, 0x6e);
/// Grid lines.
pub(crate) const GRID: RGBColor = RGBColor(0xe4, 0xe7, 0xeb);
/// Axes.
pub(crate) const AXIS: RGBColor = RGBColor(0x9a, 0xa3, 0xae);

/// Colour of a proxy mode, from Okabe and Ito's palette (Color Universal Design, 2008), which
/// readers with any common colour vision can tell apart; the floor is grey.
pub(crate) fn mode(mode: &str) -> RGBColor {
    match mode {
        "none" => RGBColor(0x6b, 0x72, 0x80),
        "userspace" => RGBColor(0xcc, 0x79, 0xa7),
        "iptables" => RGBColor(0xd5, 0x5e, 0x00),
        "ipvs" => RGBColor(0xe6, 0x9f, 0x00),
        "nftables" => RGBColor(0x00, 0x72, 0xb2),
        "ebpf" => RGBColor(0x00, 0x9e, 0x73),
        _ => RGBColor(0x56, 0xb4, 0xe9),
    }
}

/// Stage colours by place on the path: greys for the client, sand for cables, blues for the
/// node's hooks (the proxy, which the report is about, in vermillion), violet for the overlay, greens for the
/// pod, yellow for the server. Neighbours differ in lightness as well as in hue.
const STAGES: &[(&str, RGBColor)] = &[
    ("proxy", RGBColor(0xd5, 0x5e, 0x00)),
    ("conntrack", RGBColor(0x0b, 0x4f, 0x8a)),
    ("masq", RGBColor(0x7f, 0xb2, 0xe5)),
    ("filter", RGBColor(0x2f, 0x7f, 0xc1)),
    ("route", RGBColor(0xb5, 0xd4, 0xf1)),
    ("nic_rx", RGBColor(0x56, 0x9b, 0xd8)),
    ("app", RGBColor(0xf0, 0xe4, 0x42)),
    ("pod_rx", RGBColor(0x00, 0x7a, 0x5a)),
    ("wakeup", RGBColor(0x7c, 0xcf, 0xb4)),
    ("pod_tx", RGBColor(0x3a, 0xa5, 0x84)),
    ("deliver", RGBColor(0xa9, 0xdc, 0x8c)),
    ("cni", RGBColor(0x5d, 0x8a, 0x2b)),
    ("encap", RGBColor(0x6a, 0x4c, 0x93)),
    ("decap", RGBColor(0xa7, 0x8b, 0xc9)),
    ("fabric", RGBColor(0xc8, 0xa9, 0x6a)),
    ("wire", RGBColor(0xe6, 0xd3, 0xa8)),
    ("client_tx", RGBColor(0x8a, 0x93, 0x9f)),
    ("client_rx", RGBColor(0x8a, 0x93, 0x9f)),
    ("connect", RGBColor(0xb3, 0xba, 0xc4)),
    ("tls", RGBColor(0x4a, 0x52, 0x5e)),
    ("dns", RGBColor(0xd5, 0xd9, 0xdf)),
    ("body", RGBColor(0xd5, 0xd9, 0xdf)),
];

/// Colour of a stage. A joined one has the colour of the part that stands first in the list
/// above: it is the part a reader is looking for.
pub(crate) fn stage(name: &str) -> RGBColor {
    let known = STAGES.iter().find(|(known, _)| name.split('+').any(|part| part == *known));
    known.map_or(RGBColor(0xef, 0xc9, 0xc9), |(_, colour)| *colour)
}

/// Lettering that can be read on a fill.
pub(crate) fn ink_on(fill: RGBColor) -> RGBColor {
    // Relative luminance without its gamma: near enough to choose between two inks.
    let RGBColor(r, g, b) = fill;
    let light = 0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b);
    if light > 125.0 { INK } else { RGBColor(0xff, 0xff, 0xff) }
}

/// A colour as CSS reads it.
pub(crate) fn css(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}
