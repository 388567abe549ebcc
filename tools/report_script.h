// The script of report's page: draws what report.cpp wrote as JSON into it.
#pragma once

#include <string_view>

namespace bert {

inline constexpr std::string_view kReportScript = R"page("use strict";
const report = JSON.parse(document.getElementById("data").textContent);
const runs = report.runs, shown = runs.map(() => true);
const byId = id => document.getElementById(id);
const SVG = ["svg", "path", "line", "text", "g", "rect"];
const make = (name, attributes = {}, ...children) => {
  const node = SVG.includes(name) ? document.createElementNS("http://www.w3.org/2000/svg", name)
                                  : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.filter(child => child !== undefined && child !== null).map(
    child => child instanceof Node ? child : String(child)));
  return node;
};
const colour = i => `var(--run${i % 8})`;
const dash = i => ["none", "7 3", "2 2", "9 3 2 3"][i % 4];
const key = i => make("svg", {class: "key", viewBox: "0 0 26 10", "aria-hidden": "true"},
  make("line", {x1: 0, x2: 26, y1: 5, y2: 5, stroke: colour(i), "stroke-width": 2.5,
                "stroke-dasharray": dash(i)}));
const short = value => {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  if (size >= 1e9) return +(value / 1e9).toPrecision(3) + " G";
  if (size >= 1e6) return +(value / 1e6).toPrecision(3) + " M";
  if (size >= 1e4) return +(value / 1e3).toPrecision(3) + " k";
  if (size !== 0 && size < 1e-3) return value.toExponential(2);
  return String(+value.toPrecision(4));
};

const CHARTS = [
  {key: "loss", name: "Training loss", smooth: true},
  {key: "val_loss", name: "Validation loss", error: "val_loss_se", best: true},
  {key: "train_perplexity", name: "Training perplexity", of: "mlm_loss", smooth: true, log: true},
  {key: "val_perplexity", name: "Validation perplexity", log: true, best: true},
  {key: "val_accuracy", name: "Validation accuracy of masked tokens", best: true},
  {key: "mlm_loss", name: "Masked language model loss", smooth: true, onlyWith: "nsp_loss"},
  {key: "nsp_loss", name: "Next sentence loss", smooth: true},
  {key: "val_nsp_accuracy", name: "Validation accuracy of next sentences"},
  {key: "learning_rate", name: "Learning rate"},
  {key: "grad_norm", name: "Gradient norm, before clipping", smooth: true, log: true},
  {key: "tokens_per_second", name: "Tokens per second", smooth: true, zero: true},
  {key: "mfu", name: "Model FLOP utilisation", smooth: true, zero: true},
];
// Fine-tuning: charts of what its tasks are judged by, and it is by them that a step is the best.
if (runs.some(run => "task" in run.config)) {
  const names = ["accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman", "exact_match", "precision", "recall"];
  const others = CHARTS.filter(chart => chart.key !== "val_accuracy");
  CHARTS.length = 0;
  CHARTS.push(...others.slice(0, 2), ...names.map(name => ({key: "val_" + name, name: "Validation " + name.replaceAll("_", " "), best: true})),
              ...others.slice(2));
  CHARTS.find(chart => chart.key === "val_loss").best = false;
}
// A perplexity is the exponential of a mean loss: of what each point stands for.
for (const run of runs) {
  const loss = run.series.mlm_loss;
  if (!loss) continue;
  const exp = list => list && list.map(v => v === null || v > 700 ? null : Math.exp(v));
  run.series.train_perplexity = {step: loss.step, mean: exp(loss.mean), low: exp(loss.low), high: exp(loss.high)};
}

// Kinds of events: what their mark is called and looks like (in 12 x 12), and whether it is there
// at first. Each is told by its shape as well as by its colour.
const KINDS = {
  resume: {name: "resumes", shape: "M2 1L11 6L2 11Z", on: true},
  skip: {name: "skipped steps", shape: "M2 3.5L3.5 2L6 4.5L8.5 2L10 3.5L7.5 6L10 8.5L8.5 10L6 7.5L3.5 10L2 8.5L4.5 6Z", bad: true, on: true},
  rollback: {name: "rollbacks", shape: "M10 1L1 6L10 11Z", bad: true, on: true},
  best: {name: "best evaluations", shape: "M6 0L7.6 4.2L12 4.4L8.5 7.2L9.7 11.5L6 9L2.3 11.5L3.5 7.2L0 4.4L4.4 4.2Z", on: true},
  checkpoint: {name: "checkpoints", shape: "M2 2H10V10H2Z", on: false},
  stop: {name: "stops", shape: "M1 3.5L3.5 1H8.5L11 3.5V8.5L8.5 11H3.5L1 8.5Z", on: true},
};
const glyph = kind => make("svg", {class: "glyph", viewBox: "0 0 12 12", "aria-hidden": "true"},
  make("path", {d: KINDS[kind].shape, class: KINDS[kind].bad ? "shape bad" : "shape"}));
const marked = kind => kind in KINDS && KINDS[kind].on;

// Nice numbers within [low, high].
function ticks(low, high, log) {
  if (log) {
    const list = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); ++e)
      for (const m of [1, 2, 5]) list.push(m * 10 ** e);
    const inside = list.filter(x => x >= low && x <= high);
    if (inside.length > 7) return inside.filter(x => /^[1]/.test(x.toExponential()));
    if (inside.length > 1) return inside;
  }
  const rough = (high - low) / 5 || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= rough * (1 - 1e-9));
  const list = [];
  for (let k = Math.ceil(low / step); k * step <= high * (1 + 1e-12); ++k) list.push(k * step);
  return list;
}

// An exponential mean that is not pulled towards its first value.
function smoothed(values, weight) {
  let sum = 0, norm = 0;
  return values.map(value => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}

function path(xs, ys) {
  let pen = "M", d = "";
  ys.forEach((y, k) => {
    if (y === null) { pen = "M"; return; }
    d += `${pen}${xs[k].toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  });
  return d;
}

const nearest = (steps, step) => {
  let near = 0;
  steps.forEach((s, k) => { if (Math.abs(s - step) < Math.abs(steps[near] - step)) near = k; });
  return near;
};

// Reading a figure at one of `stops` (places from left to right, {x, fill(tip)}), by pointer or
// keys.
function reader(figure, stops, W, mark) {
  const svg = figure.querySelector("svg"), tip = figure.querySelector(".tip");
  let at = null;
  const show = index => {
    at = Math.max(0, Math.min(stops.length - 1, index));
    tip.replaceChildren();
    stops[at].fill(tip);
    mark(stops[at]);
    tip.style.display = "block";
    const place = stops[at].x / W * svg.clientWidth;
    tip.style.left = `${place > svg.clientWidth / 2 ? Math.max(4, place - tip.offsetWidth - 2) : place + 24}px`;
    tip.style.top = "38px";
  };
  const hide = () => { at = null; tip.style.display = "none"; mark(null); };
  svg.onpointermove = event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) * W / box.width;
    let best = 0;
    stops.forEach((s, k) => { if (Math.abs(s.x - x) < Math.abs(stops[best].x - x)) best = k; });
    show(best);
  };
  svg.onpointerleave = hide;
  svg.onblur = hide;
  svg.onkeydown = event => {
    const jump = event.shiftKey ? 10 : 1;
    const to = {ArrowRight: at === null ? 0 : at + jump, ArrowLeft: at === null ? stops.length - 1 : at - jump,
                Home: 0, End: stops.length - 1}[event.key];
    if (to !== undefined) { show(to); event.preventDefault(); }
    if (event.key === "Escape") hide();
  };
}

function draw(figure, chart) {
  const svg = figure.querySelector("svg");
  svg.replaceChildren();
  const W = svg.clientWidth || 360, H = 230, left = 52, right = 16, top = 18, bottom = 24;
  svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
  svg.style.height = `${H}px`;
  const logx = byId("logx").checked;
  const weight = chart.smooth ? +byId("smoothing").value : 0;
  const lines = [];
  runs.forEach((run, i) => {
    const series = run.series[chart.key];
    if (!series || !shown[i]) return;
    const errors = chart.error && run.series[chart.error];
    lines.push({i, run, series, mean: smoothed(series.mean, weight),
                error: errors && errors.step.length === series.step.length ? errors.mean : null});
  });
  const known = v => v !== null && v !== undefined;
  const xs = lines.flatMap(l => l.series.step);
  const ys = lines.flatMap(l => l.mean.concat(
    l.error ? l.mean.flatMap((v, k) => known(v) && known(l.error[k]) ? [v - l.error[k], v + l.error[k]] : []) : [])).filter(known);
  if (!ys.length) return;
  const x0 = logx ? Math.max(1, Math.min(...xs)) : Math.min(...xs), x1 = Math.max(...xs, x0 + 1);
  let y0 = chart.zero ? 0 : Math.min(...ys), y1 = Math.max(...ys);
  const log = chart.log && y0 > 0;
  if (y0 === y1) { y0 -= Math.abs(y0) * .05 + 1e-12; y1 += Math.abs(y1) * .05 + 1e-12; }
  if (log) { const pad = (y1 / y0) ** .04; y0 /= pad; y1 *= pad; }
  else if (chart.zero) y1 *= 1.04;
  else { const pad = (y1 - y0) * .04; y0 -= pad; y1 += pad; }
  const part = (v, a, b, isLog) => isLog ? Math.log(Math.max(v, 1e-300) / a) / Math.log(b / a) : (v - a) / (b - a);
  const px = v => left + (W - left - right) * part(Math.max(v, logx ? 1 : v), x0, x1, logx);
  const py = v => top + (H - top - bottom) * (1 - Math.min(1.02, Math.max(-.02, part(v, y0, y1, log))));
  for (const t of ticks(y0, y1, log)) {
    svg.append(make("line", {class: "grid", x1: left, x2: W - right, y1: py(t), y2: py(t)}));
    svg.append(make("text", {x: left - 6, y: py(t) + 4, "text-anchor": "end"}, short(t)));
  }
  for (const t of ticks(x0, x1, logx))
    svg.append(make("text", {x: px(t), y: H - 7, "text-anchor": "middle"}, short(t)));
  for (const l of lines) {
    const at = l.series.step.map(px), height = list => list.map(v => known(v) ? py(v) : null);
    if (l.series.low) {
      const up = l.series.high.map((v, k) => known(v) ? `L${at[k].toFixed(1)} ${py(v).toFixed(1)}` : "");
      const down = l.series.low.map((v, k) => known(v) ? `L${at[k].toFixed(1)} ${py(v).toFixed(1)}` : "").reverse();
      svg.append(make("path", {class: "band", fill: colour(l.i), d: (up.join("") + down.join("")).replace("L", "M") + "Z"}));
    }
    if (weight > 0) svg.append(make("path", {class: "raw", stroke: colour(l.i), d: path(at, height(l.series.mean))}));
    if (l.error) l.mean.forEach((v, k) => {
      if (known(v) && known(l.error[k])) svg.append(make("line", {class: "bar", stroke: colour(l.i), x1: at[k], x2: at[k],
                                                                  y1: py(v - l.error[k]), y2: py(v + l.error[k])}));
    });
    svg.append(make("path", {class: "line", stroke: colour(l.i), "stroke-dasharray": dash(l.i), d: path(at, height(l.mean))}));
    if (l.mean.length === 1 && known(l.mean[0]))
      svg.append(make("rect", {x: at[0] - 2, y: py(l.mean[0]) - 2, width: 4, height: 4, fill: colour(l.i)}));
  }
  const events = [];
  runs.forEach((run, i) => {
    if (shown[i]) for (const event of run.events) if (marked(event.kind) && event.step >= x0 && event.step <= x1)
      events.push({i, run, ...event});
  });
  for (const event of events) {
    const kind = KINDS[event.kind], x = px(event.step), bad = kind.bad ? " bad" : "";
    let y = 2;
    if (event.kind === "best") {  // on the curves that it is about only, at its point: a dot, the best of all a star
      const line = chart.best && lines.find(l => l.i === event.i), k = line ? line.series.step.indexOf(event.step) : -1;
      if (k < 0 || !known(line.mean[k])) continue;
      y = py(line.mean[k]) - 6;
      if (event.step < Math.max(...events.filter(e => e.i === event.i && e.kind === "best").map(e => e.step))) {
        svg.append(make("rect", {x: x - 2.5, y: y + 3.5, width: 5, height: 5, rx: 2.5, fill: colour(event.i)}));
        continue;
      }
    } else {
      svg.append(make("line", {class: "event" + bad, x1: x, x2: x, y1: top - 2, y2: H - bottom}));
    }
    svg.append(make("path", {class: "shape" + bad, d: kind.shape, transform: `translate(${(x - 6).toFixed(1)} ${y.toFixed(1)})`}));
  }
  const cross = make("line", {class: "cross", y1: top, y2: H - bottom, visibility: "hidden"});
  svg.append(cross);
  const steps = [...new Set(xs.concat(events.map(e => e.step)))].sort((a, b) => a - b);
  const stops = steps.map(step => ({x: px(step), fill: tip => {
    tip.append(make("div", {class: "faint"}, `step ${step}`));
    for (const l of lines) {
      const near = nearest(l.series.step, step);
      tip.append(make("div", {}, key(l.i), ` ${runs.length > 1 ? l.run.name + " " : ""}${short(l.mean[near])}`,
                      l.error && known(l.error[near]) ? ` \u00b1 ${short(l.error[near])}` : null));
    }
    for (const e of events) if (e.step === step)
      tip.append(make("div", {class: "faint"}, `${runs.length > 1 ? e.run.name + ", " : ""}${e.kind}${e.text ? ": " + e.text : ""}`));
  }}));
  reader(figure, stops, W, stop => {
    cross.setAttribute("visibility", stop ? "visible" : "hidden");
    if (stop) { cross.setAttribute("x1", stop.x); cross.setAttribute("x2", stop.x); }
  });
  svg.setAttribute("aria-label", chart.name + ": " + lines.map(l => {
    const values = l.mean.filter(known);
    return `${l.run.name} from ${short(values[0])} to ${short(values[values.length - 1])}`;
  }).join("; "));
}

// From dark blue over green to yellow, even in lightness.
const HEAT = [[68, 1, 84], [65, 68, 135], [42, 120, 142], [34, 168, 132], [122, 209, 81], [253, 231, 37]];
function heatColour(part) {
  const place = Math.max(0, Math.min(1, part)) * (HEAT.length - 1), k = Math.min(HEAT.length - 2, Math.floor(place));
  return `rgb(${HEAT[k].map((c, j) => Math.round(c + (HEAT[k + 1][j] - c) * (place - k))).join(" ")})`;
}

function drawHeat(figure, run) {
  const svg = figure.querySelector("svg"), {step, layers, norms} = run.gradient_norms;
  svg.replaceChildren();
  const W = svg.clientWidth || 720, row = layers.length > 16 ? 13 : 17, left = 84, right = 96, top = 8, bottom = 24;
  const H = top + layers.length * row + bottom;
  svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
  svg.style.height = `${H}px`;
  const values = norms.flat().filter(v => v > 0);
  if (!values.length) return;
  const low = Math.log10(Math.min(...values)), high = Math.max(Math.log10(Math.max(...values)), low + 1e-6);
  const width = (W - left - right) / step.length;
  layers.forEach((name, r) => {
    svg.append(make("text", {x: left - 6, y: top + r * row + row - 4, "text-anchor": "end"}, name));
    step.forEach((s, c) => {
      const v = norms[r][c];
      svg.append(make("rect", {x: (left + c * width).toFixed(2), y: top + r * row, width: (width + .3).toFixed(2), height: row - 1,
                               fill: v === null ? "var(--bad)" : v > 0 ? heatColour((Math.log10(v) - low) / (high - low)) : heatColour(0)}));
    });
  });
  const every = Math.max(1, Math.ceil(step.length / Math.max(1, Math.floor((W - left - right) / 70))));
  step.forEach((s, c) => {
    if (c % every === 0) svg.append(make("text", {x: left + (c + .5) * width, y: H - 7, "text-anchor": "middle"}, short(s)));
  });
  const steps = 24, tall = layers.length * row - 1;
  for (let k = 0; k < steps; ++k)
    svg.append(make("rect", {x: W - right + 16, y: (top + tall * (1 - (k + 1) / steps)).toFixed(2), width: 12,
                             height: (tall / steps + .4).toFixed(2), fill: heatColour((k + .5) / steps)}));
  svg.append(make("text", {x: W - right + 34, y: top + 9}, short(10 ** high)), make("text", {x: W - right + 34, y: top + tall}, short(10 ** low)));
  const cross = make("rect", {y: top - 1, width, height: tall + 2, fill: "none", stroke: "var(--ink)", visibility: "hidden"});
  svg.append(cross);
  const stops = step.map((s, c) => ({x: left + (c + .5) * width, fill: tip => {
    tip.append(make("div", {class: "faint"}, `step ${s}`));
    layers.forEach((name, r) => tip.append(make("div", {}, `${name} ${norms[r][c] === null ? "not finite" : short(norms[r][c])}`)));
  }}));
  reader(figure, stops, W, stop => {
    cross.setAttribute("visibility", stop ? "visible" : "hidden");
    if (stop) cross.setAttribute("x", stop.x - width / 2);
  });
  svg.setAttribute("aria-label", `Gradient norms of ${layers.length} parts of the model at ${step.length} evaluations, from ${short(10 ** low)} to ${short(10 ** high)}`);
}

const figures = [];
function addFigure(place, caption, wide, drawing) {
  const figure = make("figure", wide ? {class: "wide"} : {},
    make("figcaption", {}, caption), make("svg", {tabindex: 0, role: "img"}), make("div", {class: "tip", role: "status"}));
  place.append(figure);
  figures.push([figure, drawing]);
}
for (const chart of CHARTS) {
  if (!runs.some(run => run.series[chart.key])) continue;
  if (chart.onlyWith && !runs.some(run => run.series[chart.onlyWith])) continue;
  addFigure(byId("charts"), chart.name, false, figure => draw(figure, chart));
}
runs.forEach((run, i) => {
  if (run.gradient_norms.step.length)
    addFigure(byId("heat"), "Gradient norms by layer" + (runs.length > 1 ? ", " + run.name : ""), true, figure => {
      figure.style.display = shown[i] ? "" : "none";
      if (shown[i]) drawHeat(figure, run);
    });
});
const redraw = () => figures.forEach(([figure, drawing]) => drawing(figure));

byId("title").textContent = runs.map(run => run.name).join(", ");
document.title = byId("title").textContent + " \u2013 bert.cu report";
byId("made").textContent = report.made;
runs.forEach((run, i) => {
  const box = make("input", {type: "checkbox"});
  box.checked = true;
  box.onchange = () => { shown[i] = box.checked; redraw(); };
  byId("legend").append(make("label", {}, box, key(i), run.name));
});
for (const [kind, look] of Object.entries(KINDS)) {
  const count = runs.reduce((sum, run) => sum + run.events.filter(event => event.kind === kind).length, 0);
  if (!count) continue;
  const box = make("input", {type: "checkbox"});
  box.checked = look.on;
  box.onchange = () => { look.on = box.checked; redraw(); };
  byId("marks").append(make("label", {}, box, glyph(kind), `${look.name} (${count})`));
}

{
  const columns = [...new Set(runs.flatMap(run => Object.keys(run.summary)))];
  byId("summary").append(make("thead", {}, make("tr", {}, make("th", {scope: "col"}, "run"),
    ...columns.map(c => make("th", {class: "number", scope: "col"}, c)))));
  byId("summary").append(make("tbody", {}, ...runs.map((run, i) => make("tr", {}, make("th", {scope: "row"}, key(i), " ", run.name),
    ...columns.map(c => make("td", {class: "number"}, run.summary[c] ?? ""))))));
}

// Where predictions stand in a text: "a cat that[97.6%] sat" is ["a cat ", [{that, 0.976}], " sat"].
// What follows each other without text between is one place of several words: the text does not say
// where one ends in the original. Pieces of a word are joined, their shares multiplied.
function places(predicted) {
  const parts = [], pattern = /([^\s]+?)\[(\d+(?:\.\d+)?)%\]/g;
  let end = 0, found;
  while ((found = pattern.exec(predicted)) !== null) {
    const between = predicted.slice(end, found.index), piece = found[1], share = +found[2] / 100;
    const words = parts[parts.length - 1];
    if (!words || between.trim() !== "") {
      parts.push(between, [{word: piece.replace(/^##(?=.)/, ""), share}]);
    } else if (piece.startsWith("##")) {
      const word = words[words.length - 1];
      word.word += piece.slice(2);
      word.share *= share;
    } else {
      words.push({word: piece, share});
    }
    end = found.index + found[0].length;
  }
  parts.push(predicted.slice(end));
  return parts;
}
// The same places in the original text, {begin, end}. Spaces are set differently around
// predictions, so it is compared without them.
function originals(text, parts) {
  const at = [];  // of each character but spaces
  for (let k = 0; k < text.length; ++k) if (text[k].trim() !== "") at.push(k);
  const dense = at.map(k => text[k]).join(""), list = [];
  const literal = k => parts[k].replace(/\s+/g, "");
  let place = 0;
  for (let k = 1; k < parts.length; k += 2) {
    place += literal(k - 1).length;
    const next = literal(k + 1), found = next === "" ? dense.length : dense.indexOf(next, place + 1);
    const end = found < 0 ? dense.length : found;
    list.push(place < end ? {begin: at[place], end: at[end - 1] + 1} : {begin: text.length, end: text.length});
    place = end;
  }
  return list.map(({begin, end}) => ({begin, end, word: text.slice(begin, end)}));
}

function samples() {
  const box = byId("samples"), open = [...box.querySelectorAll("details")].map(d => d.open);
  box.replaceChildren();
  let number = 0;
  for (const run of runs) {
    if (run.samples.length && runs.length > 1) box.append(make("h3", {}, run.name));
    run.samples.forEach((sample, which) => {
      const n = sample.step.length, most = byId("every").checked ? n : Math.min(n, 8), columns = [];
      for (let c = 0; c < most; ++c) columns.push(most === 1 ? n - 1 : Math.round(c * (n - 1) / (most - 1)));
      const parts = sample.predicted.map(places), words = originals(sample.text, parts[n - 1]);
      const text = make("summary");
      let at = 0;
      for (const word of words) {
        text.append(sample.text.slice(at, word.begin), make("b", {}, word.word));
        at = word.end;
      }
      text.append(sample.text.slice(at));
      const table = make("table", {class: "timeline"}, make("thead", {}, make("tr", {}, make("th", {scope: "col"}, "step"),
        ...columns.map(c => make("th", {scope: "col"}, sample.step[c])))));
      const body = make("tbody");
      words.forEach((word, w) => {
        const row = make("tr", {}, make("th", {scope: "row"}, word.word || "\u2013"));
        for (const c of columns) {
          const guess = parts[c].filter(part => Array.isArray(part))[w];
          if (!guess) { row.append(make("td")); continue; }
          const right = guess.map(g => g.word).join(" ") === word.word;
          row.append(make("td", {}, right ? make("span", {class: "right"}, "\u2713 ") : null, ...guess.flatMap(g => [
            make("span", right ? {class: "right"} : {}, g.word), " ",
            make("span", {class: "share"}, (100 * g.share).toFixed(g.share < .0995 ? 1 : 0) + " % ")])));
        }
        body.append(row);
      });
      table.append(body);
      const details = make("details", {}, text, make("div", {class: "scroll", tabindex: 0, role: "region",
        "aria-label": `Predictions of sample ${which + 1}`}, table));
      details.open = open.length ? open[number] : which < 2;
      ++number;
      box.append(details);
    });
  }
  if (!number) { box.append(make("p", {class: "faint"}, "None was logged.")); byId("samplebox").style.display = "none"; }
}
byId("every").onchange = samples;
samples();

{
  const box = byId("events");
  for (const run of runs) {
    if (!run.events.length) continue;
    if (runs.length > 1) box.append(make("h3", {}, run.name));
    box.append(make("div", {class: "scroll", tabindex: 0, role: "region", "aria-label": "Events"}, make("table", {},
      make("thead", {}, make("tr", {}, ...["time", "step", "event", ""].map(name => make("th", {scope: "col", ...(name === "step" ? {class: "number"} : {})}, name)))),
      make("tbody", {}, ...run.events.map(event => make("tr", {},
        make("td", {}, (event.time ?? "").replace("T", " ").replace("Z", " UTC")), make("td", {class: "number"}, event.step),
        make("td", {}, event.kind in KINDS ? glyph(event.kind) : null, " " + event.kind), make("td", {}, event.text)))))));
  }
  if (!box.children.length) box.append(make("p", {class: "faint"}, "None was logged."));
}

function configuration() {
  const table = byId("config"), keys = [...new Set(runs.flatMap(run => Object.keys(run.config)))];
  const only = runs.length > 1 && byId("only").checked, body = make("tbody");
  for (const name of keys) {
    const values = runs.map(run => run.config[name] ?? "");
    const differs = new Set(values).size > 1;
    if (only && !differs) continue;
    body.append(make("tr", differs ? {class: "differs"} : {}, make("th", {scope: "row"}, name), ...values.map(value => make("td", {}, value))));
  }
  table.replaceChildren(make("thead", {}, make("tr", {}, make("th", {scope: "col"}, "key"),
    ...runs.map(run => make("th", {scope: "col"}, run.name)))), body);
  if (!body.children.length) body.append(make("tr", {}, make("td", {class: "faint"}, only ? "Nothing differs." : "None was found.")));
}
if (runs.length < 2) byId("onlybox").style.display = "none";
byId("only").onchange = configuration;
configuration();

for (const run of runs) {
  if (runs.length > 1) byId("environment").append(make("h3", {}, run.name));
  byId("environment").append(make("pre", {}, run.environment));
}

byId("smoothing").oninput = redraw;
byId("logx").onchange = redraw;
window.onresize = redraw;
matchMedia("(prefers-color-scheme: dark)").onchange = redraw;
redraw();
)page";

}  // namespace bert
