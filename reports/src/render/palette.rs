// SPDX-License-Identifier: Apache-2.0
//! One colour for each mode and each stage, in every chart of every report.

use plotters::style::RGBColor;

use crate::analysis::stage::beyond_ingress;

/// Lettering.
pub(crate) const INK: RGBColor = RGBColor(0x1f, 0x24, 0x2b);
/// The same on a coloured fill: one shade off, so that a page in dark colours may turn the one and
/// leave the other.
const INK_ON_FILL: RGBColor = RGBColor(0x1f, 0x24, 0x2c);
/// Lettering that stands back.
pub(crate) const MUTED: RGBColor = RGBColor(0x5b, 0x63, 0x6e);
/// Grid lines.
pub(crate) const GRID: RGBColor = RGBColor(0xe4, 0xe7, 0xeb);
/// Axes.
pub(crate) const AXIS: RGBColor = RGBColor(0x9a, 0xa3, 0xae);

/// Colour of a proxy mode, from Okabe and Ito's palette (Color Universal Design, 2008), which
/// readers with any common colour vision can tell apart; the floor is grey. Where another program wrote
/// the rules (`iptables.kube-proxy`) or has other addresses, a shade of the mode's own: darker by half, or beside
/// another family (`iptables.dual-ipv4`, `iptables.dual-ipv6`) lighter by half, and dark and muted.
pub(crate) fn mode(mode: &str) -> RGBColor {
    let family = crate::analysis::mode::family(mode);
    if family != mode {
        let RGBColor(r, g, b) = self::mode(family);
        let [dark, light] = [0, 255].map(|to: u16| {
            let halfway = |part: u8| u16::midpoint(part.into(), to) as u8;
            RGBColor(halfway(r), halfway(g), halfway(b))
        });
        let muted = |RGBColor(r, g, b): RGBColor| {
            let a_third_to_white = |part: u8| part + (255 - part) / 3;
            RGBColor(a_third_to_white(r), a_third_to_white(g), a_third_to_white(b))
        };
        return match mode.rsplit('.').next() {
            Some("dual-ipv4") => light,
            Some("dual-ipv6") => muted(dark),
            _ => dark,
        };
    }
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

/// Stage colours by place on the path: greys for the client, sand and brown for cables, rose for the load
/// balancer, blues for the
/// node's hooks (the two that translate addresses in vermillion and magenta: the report is about
/// them), violet for the overlay, greens for the pod, yellow for the server. Neighbours on any path
/// stay apart for readers without red, green or blue receptors; a test holds that.
const STAGES: &[(&str, RGBColor)] = &[
    ("proxy", RGBColor(0xd5, 0x5e, 0x00)),
    ("conntrack", RGBColor(0x0b, 0x4f, 0x8a)),
    ("masq", RGBColor(0xb5, 0x47, 0x8c)),
    ("filter", RGBColor(0x2f, 0x7f, 0xc1)),
    ("route", RGBColor(0xb5, 0xd4, 0xf1)),
    ("egress", RGBColor(0x30, 0x18, 0xd8)),
    ("nic_rx", RGBColor(0x1f, 0xa8, 0xb8)),
    ("app", RGBColor(0xf0, 0xe4, 0x42)),
    ("pod_rx", RGBColor(0x00, 0x7a, 0x5a)),
    ("wakeup", RGBColor(0x7c, 0xcf, 0xb4)),
    ("pod_tx", RGBColor(0x3a, 0xa5, 0x84)),
    ("deliver", RGBColor(0xa9, 0xdc, 0x8c)),
    ("cni", RGBColor(0x6f, 0x9a, 0x1f)),
    ("encap", RGBColor(0x7b, 0x3f, 0xa0)),
    ("decap", RGBColor(0xc7, 0xae, 0xe6)),
    ("fabric", RGBColor(0xbe, 0x8c, 0x32)),
    ("wire", RGBColor(0xe6, 0xd3, 0xa8)),
    ("lb", RGBColor(0xe8, 0x8a, 0x8a)),
    ("lb_wire", RGBColor(0x8a, 0x6d, 0x4a)),
    ("ingress", RGBColor(0x7a, 0x1f, 0x3d)),
    ("client_tx", RGBColor(0x96, 0x9f, 0xaa)),
    ("client_rx", RGBColor(0x6c, 0x75, 0x80)),
    ("connect", RGBColor(0xbc, 0xc3, 0xcc)),
    ("handover", RGBColor(0x4a, 0x50, 0x58)),
    ("tls", RGBColor(0x2f, 0x35, 0x3d)),
    ("pod_tls", RGBColor(0xc9, 0xa2, 0x27)),
    ("ingress_tls", RGBColor(0xd8, 0xb4, 0x4a)),
    ("dns", RGBColor(0xe4, 0xe0, 0xd2)),
    ("upgrade", RGBColor(0x8f, 0x6b, 0xa8)),
    ("body", RGBColor(0xd9, 0xdd, 0xe3)),
];

/// Colour of a stage. A joined one has the colour of the part that stands first in the list above,
/// the part a reader is looking for, shaded with the others': beside the part alone it is another. Behind an
/// ingress controller a stage is darker than before it.
pub(crate) fn stage(name: &str) -> RGBColor {
    let before: Vec<&str> = name.split('+').filter_map(beyond_ingress).collect();
    if !before.is_empty() {
        let RGBColor(r, g, b) = stage(&before.join("+"));
        return RGBColor(r / 5 * 4, g / 5 * 4, b / 5 * 4);
    }
    let of_parts = STAGES.iter().filter(|(known, _)| name.split('+').any(|part| part == *known));
    let colours: Vec<RGBColor> = of_parts.map(|(_, colour)| *colour).collect();
    match colours.as_slice() {
        [] => RGBColor(0xef, 0xc9, 0xc9),
        [one] => *one,
        [first, others @ ..] => shade(*first, others),
    }
}

/// Seven parts of a colour and three of the mean of others.
fn shade(RGBColor(r, g, b): RGBColor, others: &[RGBColor]) -> RGBColor {
    let mix = |own: u8, of: fn(&RGBColor) -> u8| {
        let sum: f64 = others.iter().map(|other| f64::from(of(other))).sum();
        (0.7 * f64::from(own) + 0.3 * sum / others.len() as f64).round() as u8
    };
    RGBColor(mix(r, |c| c.0), mix(g, |c| c.1), mix(b, |c| c.2))
}

/// Lettering that can be read on a fill.
pub(crate) fn ink_on(fill: RGBColor) -> RGBColor {
    // Relative luminance without its gamma: near enough to choose between two inks.
    let RGBColor(r, g, b) = fill;
    let light = 0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b);
    if light > 125.0 { INK_ON_FILL } else { RGBColor(0xff, 0xff, 0xff) }
}

/// A colour as CSS reads it.
pub(crate) fn css(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_and_its_variants_have_colours_of_their_own() {
        for name in ["none", "userspace", "iptables", "ipvs", "nftables", "ebpf"] {
            let variants = ["", ".ipv6", ".dual-ipv4", ".dual-ipv6"];
            let colours: std::collections::HashSet<_> = variants
                .iter()
                .map(|variant| mode(&format!("{name}{variant}")))
                .map(|RGBColor(r, g, b)| (r, g, b))
                .collect();
            assert_eq!(colours.len(), variants.len(), "{name}");
        }
    }

    /// What readers see: everyone, and those without red, green or blue receptors (Machado, Oliveira
    /// and Fernandes, IEEE TVCG 15, 2009, severity 1.0; linear RGB).
    const EYES: [[[f64; 3]; 3]; 4] = [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [
            [0.152_286, 1.052_583, -0.204_868],
            [0.114_503, 0.786_281, 0.099_216],
            [-0.003_882, -0.048_116, 1.051_998],
        ],
        [
            [0.367_322, 0.860_646, -0.227_968],
            [0.280_085, 0.672_501, 0.047_413],
            [-0.011_820, 0.042_940, 0.968_881],
        ],
        [
            [1.255_528, -0.076_749, -0.178_779],
            [-0.078_411, 0.930_809, 0.147_602],
            [0.004_733, 0.691_367, 0.303_900],
        ],
    ];

    /// CIE L*a*b* of a colour as an eye sees it.
    fn lab(RGBColor(r, g, b): RGBColor, eye: &[[f64; 3]; 3]) -> [f64; 3] {
        let linear = [r, g, b].map(|c| {
            let c = f64::from(c) / 255.0;
            if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        });
        let dot = |row: &[f64; 3]| row.iter().zip(&linear).map(|(m, c)| m * c).sum::<f64>();
        let [r, g, b] = [dot(&eye[0]), dot(&eye[1]), dot(&eye[2])].map(|c| c.clamp(0.0, 1.0));
        let f = |t: f64| if t > 0.008_856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 };
        let x = f((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505);
        let y = f(0.2126 * r + 0.7152 * g + 0.0722 * b);
        let z = f((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089);
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    #[test]
    fn neighbours_on_every_path_stay_apart_for_every_eye() {
        for path in [
            "dns connect handover client_tx wire nic_rx conntrack proxy route filter masq egress cni \
             pod_rx wakeup app pod_tx cni nic_rx conntrack proxy route filter masq egress wire \
             client_rx body",
            "cni ingress up_wire up_nic_rx up_conntrack up_proxy up_route up_filter up_masq up_egress \
             up_cni pod_rx wakeup app pod_tx up_cni up_nic_rx",
            "up_egress up_wire ingress cni nic_rx",
            "up_egress up_encap up_fabric up_decap up_deliver pod_rx",
            "up_egress up_fabric up_deliver pod_rx+wakeup",
            "up_wire up_nic_rx+up_proxy+up_route+up_egress up_cni",
            "connect tls+ingress_tls handover",
            "connect tls pod_tls handover",
            "connect tls+pod_tls handover",
            "tls client_tx",
            "route proxy filter",
            "egress encap fabric decap deliver pod_rx",
            "egress fabric deliver pod_rx+wakeup",
            "egress encap fabric decap nic_rx",
            "masq egress+cni cni",
            "pod_tx deliver encap fabric decap nic_rx",
            "pod_tx deliver fabric nic_rx",
            "cni nic_rx+conntrack+proxy+route+filter+masq+egress cni",
            "wire nic_rx+conntrack+proxy+route+filter+masq+egress encap",
            "decap nic_rx+conntrack+proxy+route+filter+masq+egress wire",
            "fabric nic_rx+conntrack+proxy+route+filter+masq+egress fabric",
            "wire nic_rx+proxy+route+egress encap",
            "decap nic_rx+proxy+route+egress wire",
            "cni nic_rx+proxy+route+egress cni",
            "fabric nic_rx+proxy+route+egress fabric",
            "conntrack+proxy route+filter masq",
            "cni pod_rx+wakeup app",
        ] {
            let names: Vec<&str> = path.split_whitespace().collect();
            for pair in names.windows(2) {
                for eye in &EYES {
                    let [a, b] = [pair[0], pair[1]].map(|name| lab(stage(name), eye));
                    let far = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                    // Two patches side by side are told apart at about 2.3; 10 is at a glance.
                    assert!(far >= 10.0, "{} and {} differ by {far:.1}", pair[0], pair[1]);
                }
            }
        }
    }

    #[test]
    fn no_two_stages_have_the_same_colour() {
        for (place, (name, colour)) in STAGES.iter().enumerate() {
            assert!(STAGES[place + 1..].iter().all(|(_, other)| other != colour), "{name}");
        }
        assert_ne!(stage("proxy"), stage("conntrack+proxy"));
        assert_ne!(stage("conntrack+proxy"), stage("proxy+route"));
        assert_ne!(stage("up_proxy"), stage("proxy"));
    }
}
