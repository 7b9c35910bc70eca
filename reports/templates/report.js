// SPDX-License-Identifier: Apache-2.0
// Makes a report answer to pointer and keyboard. The page is whole without it: it only draws the
// charts of lines anew from the figures beside them, and shows, hides and sorts what is there.
(() => {
'use strict';
const doc = document;
const all = (query, root = doc) => [...root.querySelectorAll(query)];
const NS = 'http://www.w3.org/2000/svg';
const make = (tag, attributes = {}, ...children) => {
  const node = tag[0] === ':' ? doc.createElementNS(NS, tag.slice(1)) : doc.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const set = (node, name, value) => node.setAttribute(name, value);
const on = (node, type, act, how) => node.addEventListener(type, act, how);
const rule = (x1, x2, y1, y2, more) => make(':line', { x1, x2, y1, y2, ...more });
const button = (text, label, act) => {
  const node = make('button', { type: 'button', 'aria-label': label, title: label }, text);
  on(node, 'click', act);
  return node;
};

// Numbers: three digits to read, all of them beside.
const digits = (v) => v === 0 ? '0' : Math.abs(v) >= 999.5 ? Math.round(v).toLocaleString('en')
  : String(Number(v.toPrecision(3)));
const UNITS = [[1, 'ns'], [1e3, 'µs'], [1e6, 'ms'], [1e9, 's']];
const unitOf = (ns) => [...UNITS].reverse().find(([size]) => Math.abs(ns) >= size * 0.9995) || UNITS[0];
const say = (v, unit) => {
  if (unit === 'ns') { const [size, name] = unitOf(v); return `${digits(v / size)} ${name}`; }
  return unit === 'rps' ? `${digits(v)} req/s` : digits(v);
};
const exact = (v, unit) => {
  if (unit !== 'ns' || Math.abs(v) < 1000) return say(v, unit);
  return `${say(v, unit)} (${Math.round(v).toLocaleString('en')} ns)`;
};

// One tip for the page; a screen reader hears it.
const tip = make('div', { class: 'tip', role: 'status', hidden: '' });
doc.body.append(tip);
const show = (text, x, y) => {
  tip.textContent = text;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 12, innerWidth - width - 4))}px`;
  tip.style.top = `${y - height - 12 < 4 ? y + 18 : y - height - 12}px`;
};
const hide = () => { tip.hidden = true; };
on(window, 'scroll', hide, { passive: true, capture: true });
on(window, 'keydown', (ev) => { if (ev.key === 'Escape') hide(); });

const STEP = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
const off = new Set();
const charts = [];
const drawn = [];

// Charts of bars: their marks say what they are.
for (const svg of all('figure.chart svg')) {
  const marks = all('.mark', svg);
  if (svg.closest('figure').querySelector('script') || !marks.length) continue;
  let at = -1;
  const tell = (mark) => {
    const box = mark.getBoundingClientRect();
    marks.forEach((other) => other.classList.toggle('on', other === mark));
    show(mark.querySelector('title').textContent, box.left + Math.min(box.width, 60) / 2, Math.max(box.top, 40));
  };
  const leave = () => { marks.forEach((mark) => mark.classList.remove('on')); hide(); };
  svg.tabIndex = 0;
  svg.setAttribute('role', 'group');
  on(svg, 'pointerover', (ev) => {
    const mark = ev.target.closest('.mark');
    if (mark && !off.has(mark.dataset.mode)) tell(mark); else leave();
  });
  on(svg, 'pointerleave', leave);
  on(svg, 'blur', leave);
  on(svg, 'keydown', (ev) => {
    const step = STEP[ev.key];
    if (!step) return;
    ev.preventDefault();
    for (let tries = 0; tries < marks.length; tries++) {
      at = (at + step + marks.length) % marks.length;
      if (!off.has(marks[at].dataset.mode)) return tell(marks[at]);
    }
  });
}

// Ticks at round values: on a straight axis from its least, on a logarithmic one by decades.
const steps = (from, to, most) => {
  const rough = (to - from) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999999);
  const ticks = [];
  for (let v = Math.ceil(from / step - 1e-9) * step; v <= to + step * 1e-9; v += step) ticks.push(v);
  return ticks;
};
const decades = (from, to) => {
  const span = Math.log10(to / from);
  const by = span < 0.7 ? [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9] : span < 1.3 ? [1, 1.5, 2, 3, 5, 7] : span < 3 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let p = Math.floor(Math.log10(from)); p <= Math.log10(to); p++) for (const m of by) ticks.push(m * 10 ** p);
  return ticks.filter((t) => t >= from * 0.999999 && t <= to * 1.000001);
};

let clips = 0;
function chart(figure) {
  const data = JSON.parse(figure.querySelector('script').textContent);
  for (const s of data.s) {
    s.k = s.k || [];
    drawn.push(s.m);
  }
  const still = figure.querySelector('svg');
  const name = still.getAttribute('aria-label');
  const xs = data.s.flatMap((s) => [...s.p, ...s.f].map((p) => p[0]));
  const whole = [Math.min(...xs), Math.max(...xs)];
  const clip = `clip-${++clips}`;
  const ofY = data.y.unit;
  const st = { range: whole, logX: !!data.x.log, logY: !!data.y.log, at: -1, drag: null };
  const svg = make(':svg', { tabindex: 0, role: 'group', 'aria-roledescription': 'chart', 'aria-label':
    `${name}. Arrow keys go from figure to figure, plus and minus zoom, 0 shows all.` });
  const legend = make('p', { class: 'legend' });
  let spots = [];
  let scale = null;

  const draw = () => {
    const series = data.s.filter((s) => !off.has(s.m));
    const wide = Math.max(280, Math.round(svg.parentNode.clientWidth));
    const high = Math.round(Math.max(280, Math.min(440, wide * 0.6)));
    const narrow = wide < 460;
    const [left, right, top, bottom] = [58, narrow ? 14 : 24 + Math.max(40, ...series.map((s) => s.l.length * 8.2)), 30, high - 48];
    const end = wide - right;
    const [from, to] = st.range;
    const fx = st.logX ? Math.log10 : (v) => v;
    const gap = fx(to) - fx(from) || 1;
    const pad = data.x.ticks && !data.y.log ? 0.02 * gap + (to === from ? 1 : 0) : 0;
    const px = (v) => left + (fx(v) - fx(from) + pad) / (gap + 2 * pad) * (end - left);
    const inside = (p) => p[0] >= from - 1e-9 && p[0] <= to + 1e-9;
    const ys = series.flatMap((s) => [...s.p.filter(inside).flatMap((p) => [p[1], p[2] ?? p[1], p[3] ?? p[1]]), ...s.f.filter(inside).map((p) => p[1])]);
    const positive = ys.filter((v) => v > 0);
    const most = Math.max(...positive, Number.MIN_VALUE) || 1;
    const least = Math.min(...positive, most);
    const roof = (positive.length ? most : 1) * 1.04;
    const yTicks = st.logY ? decades(least * 0.95, most * 1.05) : steps(0, roof, 6);
    const [low, up] = st.logY ? [Math.log10(least * 0.95), Math.log10(most * 1.05)] : [0, roof];
    const py = (v) => {
      const share = ((st.logY ? Math.log10(Math.max(v, 1e-12)) : v) - low) / (up - low || 1);
      return Math.max(top - 500, Math.min(bottom + 500, bottom - share * (bottom - top)));
    };
    const [unit, symbol] = ofY === 'ns' ? unitOf(most) : [1, ''];
    const text = (value, x, y, anchor, kind) => make(':text', { x, y, 'text-anchor': anchor, class: kind || 'ax' }, value);
    svg.replaceChildren();
    svg.setAttribute('viewBox', `0 0 ${wide} ${high}`);
    svg.setAttribute('width', wide);
    svg.setAttribute('height', high);
    svg.append(make(':clipPath', { id: clip }, make(':rect', { x: left - 1, y: top - 8, width: end - left + 2, height: bottom - top + 9 })));
    svg.append(text(data.y.title + (ofY === 'ns' && !data.y.title.endsWith(symbol) ? `, ${symbol}` : '') + (st.logY ? ' (log scale)' : ''), 4, 14, 'start'));
    for (const v of yTicks) {
      svg.append(rule(left, end, py(v), py(v), { class: 'grid' }), text(digits(v / unit), left - 8, py(v) + 4, 'end'));
    }
    let edge = -Infinity;
    const named = data.x.ticks ? data.x.ticks.filter(inside) : (st.logX ? decades(from, to) : steps(from, to, 6)).map((v) => [v, v.toLocaleString('en')]);
    for (const [v, whole] of named) {
      const label = whole.slice(0, 11);
      const half = label.length * 3.6;
      const x = px(v);
      if (x - half < edge + 8 || x + half > wide || x < half) continue;
      edge = x + half;
      svg.append(rule(x, x, top, bottom, { class: 'grid' }), text(label, x, bottom + 17, 'middle'));
    }
    svg.append(rule(left, end, bottom, bottom, { class: 'axis' }), text(data.x.title + (st.logX ? ' (log scale)' : ''), end, high - 8, 'end'));
    const plot = make(':g', { 'clip-path': `url(#${clip})` });
    svg.append(plot);
    spots = [];
    const ends = [];
    for (const [place, s] of series.entries()) {
      // Strokes of distributions stand side by side, or they would hide each other.
      const aside = data.y.log ? (place - (series.length - 1) / 2) * 4 : 0;
      const line = s.f.length ? s.f : s.p;
      const path = (points) => points.map(([x, y]) => `${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join('L');
      const band = s.f.filter((p) => p.length > 2);
      if (band.length > 1) {
        const back = [...band].reverse().map((p) => [p[0], p[2]]);
        plot.append(make(':path', { d: `M${path(band.map((p) => [p[0], p[3]]))}L${path(back)}Z`, fill: s.c, 'fill-opacity': 0.16 }));
      }
      for (const at of s.k) plot.append(rule(px(at), px(at), top, bottom, { stroke: s.c, 'stroke-dasharray': '4 3' }));
      if (line.length > 1) plot.append(make(':path', { d: `M${path(line)}`, fill: 'none', stroke: s.c, 'stroke-width': 2, 'stroke-dasharray': s.d }));
      for (const p of s.p.filter(inside)) {
        const x = px(p[0]) + aside;
        if (p.length > 2) plot.append(rule(x, x, py(p[2]), py(p[3]), { stroke: s.c, 'stroke-width': 1.5 }));
        plot.append(make(':circle', { cx: x, cy: py(p[1]), r: s.k.includes(p[0]) ? 6 : 3.5, fill: s.c, class: 'dot' }));
        spots.push({ s, p, x, y: py(p[1]) });
      }
      const last = line.filter(inside).pop();
      if (last) ends.push({ s, y: Math.max(top, Math.min(bottom, py(last[1]))) });
    }
    if (!narrow) {
      ends.sort((a, b) => a.y - b.y);
      ends.forEach((e, i) => { if (i) e.y = Math.max(e.y, ends[i - 1].y + 16); });
      for (let i = ends.length - 1, floor = bottom; i >= 0; i--) { ends[i].y = Math.min(ends[i].y, floor); floor = ends[i].y - 16; }
      for (const { s, y } of ends) svg.append(make(':rect', { x: end + 8, y: y - 5, width: 10, height: 10, rx: 2, fill: s.c }), text(s.l, end + 22, y + 4, 'start', 'name'));
    }
    legend.replaceChildren(...(narrow ? series.map((s) => {
      const patch = make('i', { class: 'swatch' });
      patch.style.background = s.c;
      return make('span', {}, patch, s.l);
    }) : []));
    scale = { px, left, end, top, bottom, from, to, fx, gap, pad };
  };

  const drop = (query) => all(query, svg).forEach((old) => old.remove());
  const ring = (spot) => {
    drop('.ring');
    if (!spot) return hide();
    svg.append(make(':circle', { cx: spot.x, cy: spot.y, r: 8, class: 'ring' }));
    const box = svg.getBoundingClientRect();
    const { s, p } = spot;
    const named = (data.x.ticks || []).find((t) => Math.abs(t[0] - p[0]) < 1e-3);
    const where = named ? named[1] : `${p[0].toLocaleString('en')} ${data.x.name || ''}`;
    const spread = p.length > 2 ? `\niterations ${say(p[2], ofY)} to ${say(p[3], ofY)}` : '';
    const changed = s.k.includes(p[0]) ? '\nthe level changed here' : '';
    show(`${s.l}, ${where}\n${exact(p[1], ofY)}${spread}${changed}`, box.left + spot.x, box.top + spot.y);
  };
  const zoom = (from, to) => {
    const { fx } = scale;
    const full = fx(whole[1]) - fx(whole[0]);
    if (fx(to) - fx(from) < full / 200) return;
    st.range = [Math.max(whole[0], from), Math.min(whole[1], to)];
    if (fx(st.range[1]) - fx(st.range[0]) > full * 0.999) st.range = whole;
    st.at = -1;
    draw();
  };
  const by = (factor) => {
    const { fx, from, to } = scale;
    const back = st.logX ? (v) => 10 ** v : (v) => v;
    const middle = (fx(from) + fx(to)) / 2;
    const half = (fx(to) - fx(from)) / 2 * factor;
    zoom(back(middle - half), back(middle + half));
  };
  const reset = () => { st.range = whole; draw(); };
  const value = (x) => {
    const { left, end, from, fx, gap, pad } = scale;
    const v = fx(from) - pad + (x - left) / (end - left) * (gap + 2 * pad);
    return st.logX ? 10 ** v : v;
  };
  const local = (ev) => { const box = svg.getBoundingClientRect(); return [ev.clientX - box.left, ev.clientY - box.top]; };

  on(svg, 'pointerdown', (ev) => { if (ev.button === 0 && ev.pointerType !== 'touch') st.drag = local(ev)[0]; });
  on(svg, 'pointermove', (ev) => {
    const [x, y] = local(ev);
    drop('.brush');
    if (st.drag !== null && Math.abs(x - st.drag) > 4) {
      hide();
      return svg.append(make(':rect', { class: 'brush', x: Math.min(x, st.drag), y: scale.top, width: Math.abs(x - st.drag), height: scale.bottom - scale.top }));
    }
    const near = spots.map((spot) => [Math.hypot(spot.x - x, spot.y - y), spot]).sort((a, b) => a[0] - b[0])[0];
    ring(near && near[0] < 28 ? near[1] : null);
  });
  on(window, 'pointerup', (ev) => {
    if (st.drag === null) return;
    const [start, [x]] = [st.drag, local(ev)];
    st.drag = null;
    drop('.brush');
    if (Math.abs(x - start) > 12) zoom(...[value(start), value(x)].sort((a, b) => a - b));
  });
  for (const leave of ['pointerleave', 'blur']) on(svg, leave, () => ring(null));
  on(svg, 'dblclick', reset);
  on(svg, 'keydown', (ev) => {
    const step = STEP[ev.key];
    if (step && spots.length) st.at = (st.at + step + (st.at < 0 && step < 0 ? 1 : 0) + spots.length) % spots.length;
    else if (ev.key === '+' || ev.key === '=') by(0.5);
    else if (ev.key === '-') by(2);
    else if (ev.key === '0') reset();
    else return;
    ev.preventDefault();
    if (step && spots.length) ring(spots[st.at]);
  });

  const tools = make('div', { class: 'tools', role: 'group', 'aria-label': `Scale of the chart: ${name}` });
  const toggle = (text, label, key) => {
    const node = button(text, label, () => { st[key] = !st[key]; set(node, 'aria-pressed', st[key]); draw(); });
    set(node, 'aria-pressed', st[key]);
    tools.append(node);
  };
  if (data.x.scales && whole[0] > 0) toggle('log x', 'Logarithmic level axis', 'logX');
  toggle('log y', 'Logarithmic upright axis', 'logY');
  tools.append(button('+', 'Zoom in', () => by(0.5)), button('−', 'Zoom out', () => by(2)), button('all', 'Show all', reset));
  const head = make('p', { class: 'chart-title' }, name.split(/, (one|for) /)[0]);
  still.replaceWith(head, tools, svg, legend);
  figure.classList.add('live');
  draw();
  charts.push(draw);
  let width = svg.parentNode.clientWidth;
  new ResizeObserver(() => {
    if (svg.parentNode.clientWidth && svg.parentNode.clientWidth !== width) { width = svg.parentNode.clientWidth; draw(); }
  }).observe(svg.parentNode);
}
all('figure.chart').filter((figure) => figure.querySelector('script')).forEach(chart);

// Modes: a button for each.
const modes = [...new Set([...all('[data-mode]').map((node) => node.dataset.mode), ...drawn].filter(Boolean))];
if (modes.length > 1) {
  const bar = make('div', { class: 'modes', role: 'group', 'aria-label': 'Proxy modes shown' }, make('span', {}, 'Modes'));
  const apply = () => {
    for (const node of all('[data-mode]')) {
      const gone = off.has(node.dataset.mode);
      if (node.classList.contains('mark')) node.classList.toggle('off', gone); else node.hidden = gone;
    }
    all('button[data-of]', bar).forEach((node) => set(node, 'aria-pressed', !off.has(node.dataset.of)));
    charts.forEach((draw) => draw());
  };
  for (const mode of modes) {
    const node = button(mode, `Show ${mode}`, () => { if (!off.delete(mode)) off.add(mode); apply(); });
    node.dataset.of = mode;
    set(node, 'aria-pressed', true);
    bar.append(node);
  }
  bar.append(button('all', 'Show all modes', () => { off.clear(); apply(); }));
  doc.querySelector('main').prepend(bar);
}

// Tables: a button in each heading sorts the rows of each block.
const SIZE = { ns: 1, 'µs': 1e3, ms: 1e6, s: 1e9, KiB: 1024, MiB: 1048576, GiB: 1073741824 };
const key = (cell) => {
  if (!cell) return null;
  if (cell.dataset.sort) return Number(cell.dataset.sort);
  const text = [...cell.childNodes].filter((n) => n.nodeName !== 'SMALL').map((n) => n.textContent).join('').trim();
  const found = /^[×+]?(-?[\d,]*\.?\d+)\s*([^\s()]*)/.exec(text);
  return found ? Number(found[1].replaceAll(',', '')) * (SIZE[found[2]] || 1) : text === '–' || !text ? null : text;
};
for (const table of all('table[data-sortable]')) {
  const heads = all('thead th', table);
  const bodies = all('tbody', table).map((body) => [body, all('tr', body)]);
  if (!bodies.some(([, rows]) => rows.length > 2)) continue;
  heads.forEach((head, column) => {
    const node = make('button', { type: 'button', class: 'sort' }, ...head.childNodes);
    on(node, 'click', () => {
      const next = { none: 'ascending', ascending: 'descending' }[head.getAttribute('aria-sort') || 'none'] || 'none';
      heads.forEach((other) => other.removeAttribute('aria-sort'));
      if (next !== 'none') set(head, 'aria-sort', next);
      const sign = next === 'descending' ? -1 : 1;
      for (const [body, rows] of bodies) {
        const fixed = rows.filter((row) => row.classList.contains('head'));
        const rest = rows.filter((row) => !fixed.includes(row));
        if (next !== 'none') rest.sort((a, b) => {
          const [x, y] = [key(a.cells[column]), key(b.cells[column])];
          // What has no figure stands last, whichever way.
          if (x === null || y === null) return (x === null) - (y === null);
          return sign * (typeof x === 'number' && typeof y === 'number' ? x - y : String(x).localeCompare(String(y), 'en', { numeric: true }));
        });
        body.append(...fixed, ...rest);
      }
    });
    head.append(node);
  });
}
doc.documentElement.dataset.ready = 'yes';
})();
