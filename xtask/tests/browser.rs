// SPDX-License-Identifier: Apache-2.0
//! Ring 4: the report opened from disk in headless Chromium.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::Path;
use std::process::Command;

const QUIET: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
];

fn chromium(profile: &Path, arguments: &[&str]) -> (String, String) {
    let output = Command::new("timeout")
        .args(["60", "chromium"])
        .args(QUIET)
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn the_report_opens_from_disk_without_an_error_or_a_request() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let bench = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["bench", "--lab", "fake", "--trace-slowest", "1", "--out"])
        .arg(&run)
        .output()
        .unwrap();
    assert!(bench.status.success());
    let url = format!("file://{}", run.join("report.html").display());
    let profile = dir.path().join("profile");
    // Every request that is not a file would have to resolve a name; none may.
    let rules = "--host-resolver-rules=MAP * ~NOTFOUND";
    let (dom, log) = chromium(&profile, &[rules, "--dump-dom", &url]);
    assert!(dom.contains("<svg") && dom.contains("nodeport-remote"), "{log}");
    assert!(dom.contains("The slowest requests"), "{log}");
    let complaints: Vec<_> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    let html = std::fs::read_to_string(run.join("report.html")).unwrap();
    for outside in ["src=\"http", "href=\"http", "url(http", "@import"] {
        assert!(!html.contains(outside), "{outside}");
    }
    let picture = dir.path().join("report.png");
    let shot = format!("--screenshot={}", picture.display());
    chromium(&profile, &[rules, "--window-size=1280,2000", &shot, &url]);
    assert!(picture.metadata().unwrap().len() > 20_000);
}

/// Opens a page in a frame of that width, runs a script beside it that finds the page's document in `d`
/// and its window in `w`, and returns the object the script returned.
fn driven(dir: &Path, page: &str, width: u32, flags: &[&str], script: &str) -> serde_json::Value {
    let frame = dir.join(format!("frame-{width}.html"));
    let html = format!(
        "<iframe src=\"{page}\" width=\"{width}\" height=\"900\"></iframe><p></p><script>\n\
         onload = () => {{ const w = document.querySelector('iframe').contentWindow;\n\
         const d = w.document; let said; try {{ said = (() => {{ {script} }})(); }}\n\
         catch (error) {{ said = {{ error: String(error) }}; }}\n\
         document.querySelector('p').textContent = encodeURIComponent(JSON.stringify(said)); }};</script>"
    );
    std::fs::write(&frame, html).unwrap();
    let url = format!("file://{}", frame.display());
    let rules = "--host-resolver-rules=MAP * ~NOTFOUND";
    let arguments =
        [flags, &["--allow-file-access-from-files", rules, "--dump-dom", &url]].concat();
    let (dom, log) = chromium(&dir.join("profile"), &arguments);
    let said = dom.rsplit("<p>").next().and_then(|rest| rest.split_once('<')).expect(&log).0;
    let bytes: Vec<u8> = decoded(said.trim());
    let said: serde_json::Value = serde_json::from_slice(&bytes).expect(&log);
    assert!(said.get("error").is_none(), "{said}");
    said
}

/// Undoes `encodeURIComponent`.
fn decoded(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(code, 16).unwrap());
        bytes.extend(rest.as_bytes());
    }
    bytes
}

/// A run of the fake lab with a report that has every kind of chart.
fn fake_report(dir: &Path) -> std::path::PathBuf {
    let run = dir.join("run");
    let bench = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["bench", "--lab", "fake", "--services", "1,100,1000", "--workload", "newconn"])
        .args(["--route", "nodeport-remote", "--out"])
        .arg(&run)
        .output()
        .unwrap();
    assert!(bench.status.success());
    run
}

#[test]
fn a_report_answers_to_pointer_and_keyboard() {
    let dir = tempfile::tempdir().unwrap();
    fake_report(dir.path());
    let script = r"
        const all = (query, root = d) => [...root.querySelectorAll(query)];
        const press = (node, key) => node.dispatchEvent(new w.KeyboardEvent('keydown', { key, bubbles: true }));
        const mode = (name) => all('.modes button').find((b) => b.textContent === name);
        const rows = () => all('tr[data-mode=iptables]').filter((row) => !row.hidden).length;
        const chart = d.querySelector('.curves .live svg');
        const ticks = () => all('text', chart).map((t) => t.textContent).join('|');
        const tip = () => { const t = d.querySelector('.tip'); return t.hidden ? '' : t.textContent; };
        const said = { ready: d.documentElement.dataset.ready, live: all('.live').length };
        said.rows = rows(); said.lines = all('g > path', chart).length;
        mode('iptables').click();
        said.pressed = mode('iptables').getAttribute('aria-pressed');
        said.rowsOff = rows(); said.linesOff = all('g > path', chart).length;
        said.marksOff = all('.mark.off').length;
        mode('all').click();
        said.rowsBack = rows();
        chart.focus(); press(chart, 'ArrowRight'); said.first = tip();
        press(chart, 'ArrowRight'); said.second = tip();
        press(chart, 'Escape'); said.escaped = tip();
        const before = ticks();
        press(chart, '+'); said.zoomed = ticks() !== before;
        press(chart, '0'); said.unzoomed = ticks() === before;
        const log = all('.curves .live .tools button').find((b) => b.textContent === 'log y');
        log.click(); said.log = log.getAttribute('aria-pressed') + ticks().includes('(log scale)');
        log.click();
        const bars = all('figure.chart:not(.live) svg[tabindex]')[0];
        bars.focus(); press(bars, 'ArrowRight'); said.bar = tip();
        const body = d.querySelector('.summary tbody');
        const names = () => [...body.rows].slice(1).map((row) => row.cells[0].textContent.trim()).join();
        const sort = d.querySelectorAll('.summary .sort')[2];
        said.order = names();
        sort.click(); said.up = names(); said.aria = sort.parentNode.getAttribute('aria-sort');
        sort.click(); said.down = names(); sort.click(); said.restored = names();
        return said;";
    let said = driven(dir.path(), "run/report.html", 1280, &[], script);
    let text = |key: &str| said[key].as_str().unwrap_or_else(|| panic!("{key}: {said}")).to_owned();
    assert_eq!(text("ready"), "yes");
    // First packet, latency and throughput over Services, and latency by percentile of each count.
    assert_eq!(said["live"], 6, "{said}");
    assert_eq!((text("pressed").as_str(), said["rowsOff"].as_u64()), ("false", Some(0)), "{said}");
    assert!(said["rows"].as_u64() > Some(3) && said["rowsBack"] == said["rows"], "{said}");
    assert!(said["linesOff"].as_u64() < said["lines"].as_u64(), "{said}");
    assert!(said["marksOff"].as_u64() > Some(0), "{said}");
    assert!(text("first").contains("Services") && text("first").contains("ns)"), "{said}");
    assert!(text("first") != text("second") && text("escaped").is_empty(), "{said}");
    assert!(said["zoomed"] == true && said["unzoomed"] == true, "{said}");
    assert_eq!(text("log"), "truetrue");
    assert!(text("bar").contains("req") || text("bar").contains("mean"), "{said}");
    assert_eq!(text("aria"), "ascending");
    assert!(text("up") != text("down") && text("restored") == text("order"), "{said}");
}

#[test]
fn nothing_but_the_reports_own_script_runs_and_nothing_is_fetched() {
    let dir = tempfile::tempdir().unwrap();
    fake_report(dir.path());
    let script = r"
        const loaded = w.performance.getEntriesByType('resource').length;
        const add = (tag, attributes) => d.body.append(Object.assign(d.createElement(tag), attributes));
        add('script', { textContent: 'window.foreign = 1' });
        add('script', { src: 'frame-800.html' });
        let evalled = 1;
        try { w.eval('window.foreign = 2'); } catch { evalled = 0; }
        const policy = d.querySelector('meta[http-equiv]').content;
        return { foreign: w.foreign ?? 0, evalled, policy, loaded };";
    let said = driven(dir.path(), "run/report.html", 800, &[], script);
    assert_eq!(
        (&said["foreign"], &said["evalled"], &said["loaded"]),
        (&0.into(), &0.into(), &0.into()),
        "{said}"
    );
    assert!(
        said["policy"].as_str().unwrap().starts_with("default-src 'none'; script-src 'sha256-")
    );
}

#[test]
fn a_report_fits_a_phone_and_can_be_read_in_light_and_dark() {
    let dir = tempfile::tempdir().unwrap();
    let run = fake_report(dir.path());
    let history = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["report", "--history"])
        .arg(&run)
        .output()
        .unwrap();
    assert!(history.status.success(), "{}", String::from_utf8_lossy(&history.stderr));
    // Contrast as WCAG 2.2 counts it, of every text against the nearest ground that is painted.
    let script = r"
        d.querySelectorAll('details').forEach((one) => { one.open = true; });
        const parse = (colour) => (colour.match(/[\d.]+/g) || []).map(Number);
        const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const ground = (node) => { for (; node; node = node.parentElement) { const c = parse(w.getComputedStyle(node).backgroundColor); if (c.length === 3 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
        const faint = [];
        for (const node of d.querySelectorAll('body *:not(script):not(.tip)')) {
          if (![...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !node.getClientRects().length) continue;
          if (node.closest('svg') && !node.closest('.live svg')) continue;
          const style = w.getComputedStyle(node);
          const ink = parse(node.closest('svg') ? style.fill : style.color).slice(0, 3);
          const [a, b] = [light(ink), light(ground(node))].sort((x, y) => y - x);
          const ratio = (a + 0.05) / (b + 0.05);
          if (ratio < 4.5) faint.push(`${node.nodeName} ${node.className.baseVal ?? node.className} ${node.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
        }
        const unnamed = [...d.querySelectorAll('button, a[href], svg[tabindex], [role=group]')].filter((n) => !(n.getAttribute('aria-label') || n.textContent.trim())).length;
        const headless = [...d.querySelectorAll('thead th')].filter((n) => !n.hasAttribute('scope')).length;
        return { wide: d.documentElement.scrollWidth, dark: w.matchMedia('(prefers-color-scheme: dark)').matches, faint: faint.slice(0, 9), unnamed, headless };";
    for page in ["run/report.html", "run/history.html"] {
        for (dark, flag) in [
            (false, "--blink-settings=preferredColorScheme=1"),
            (true, "--blink-settings=preferredColorScheme=0"),
        ] {
            let said = driven(dir.path(), page, 360, &[flag], script);
            assert!(said["wide"].as_u64().unwrap() <= 360, "{page}: {said}");
            assert_eq!(said["dark"], dark, "{said}");
            assert_eq!(said["faint"].as_array().unwrap().len(), 0, "{page}, dark {dark}: {said}");
            assert_eq!(
                (&said["unnamed"], &said["headless"]),
                (&0.into(), &0.into()),
                "{page}: {said}"
            );
        }
    }
}

#[test]
fn a_drawn_walk_needs_no_more_room_than_a_phone_has() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("trace.html");
    let trace = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["trace", "--lab", "fake", "--mode", "iptables", "--cni", "vxlan", "--html"])
        .arg(&page)
        .output()
        .unwrap();
    assert!(trace.status.success());
    // The page itself runs no script; a frame of 400 pixels around it may, and says how wide it got.
    let frame = dir.path().join("frame.html");
    let html = "<iframe src=\"trace.html\" width=\"400\" height=\"800\"></iframe><p>\n\
        <script>onload = () => { const d = document.querySelector('iframe').contentDocument;\n\
        document.querySelector('p').textContent =\n\
        `${d.documentElement.scrollWidth} ${d.querySelectorAll('.steps tbody td').length}`; }</script>";
    std::fs::write(&frame, html).unwrap();
    let profile = dir.path().join("profile");
    let url = format!("file://{}", frame.display());
    let (dom, log) = chromium(&profile, &["--allow-file-access-from-files", "--dump-dom", &url]);
    let said = dom.split("<p>").nth(1).and_then(|rest| rest.split_once('<')).unwrap().0.trim();
    let (width, cells) = said.split_once(' ').expect(&log);
    assert!(width.parse::<u32>().unwrap() <= 400, "{width} pixels wide: {log}");
    assert!(cells.parse::<u32>().unwrap() > 50, "{cells} cells: {log}");
}
