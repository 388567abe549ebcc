// The page that report fills in place of /*REPORT_DATA*/: HTML, styles and script in one, which
// need nothing from elsewhere.
#pragma once

#include <string_view>

namespace bert {

inline constexpr std::string_view kReportPage = R"page(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>bert.cu report</title>
<style>
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1c2024; --faint: #6b7280; --rule: #e3e6ea; --panel: #f7f8fa;
  --mark: #fff3c4;
  --run0: #0072b2; --run1: #d55e00; --run2: #009e73; --run3: #cc79a7;
  --run4: #8a6d00; --run5: #3a9bd1; --run6: #7a5cc4; --run7: #5c6770;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --ink: #e6e8ea; --faint: #98a1ab; --rule: #2c3238; --panel: #1b1f24;
    --mark: #4a3f12;
    --run0: #56b4e9; --run1: #f08c4a; --run2: #2fc79b; --run3: #e19bc4;
    --run4: #d9b93a; --run5: #8fd0f5; --run6: #b49cf0; --run7: #aab4be;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
       font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 22px; margin: 0 0 4px; }
h2 { font-size: 17px; margin: 36px 0 10px; }
.faint { color: var(--faint); }
.legend { display: flex; flex-wrap: wrap; gap: 6px 18px; margin: 14px 0; }
.legend label { display: flex; align-items: center; gap: 6px; cursor: pointer; }
.swatch { width: 18px; height: 4px; border-radius: 2px; display: inline-block; }
.controls { display: flex; flex-wrap: wrap; gap: 8px 24px; align-items: center; margin: 8px 0 16px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)); gap: 18px; }
figure { margin: 0; padding: 12px 12px 6px; background: var(--panel); border: 1px solid var(--rule);
         border-radius: 8px; position: relative; }
figcaption { font-weight: 600; font-size: 14px; }
svg { display: block; width: 100%; height: 220px; touch-action: pan-y; }
svg text { fill: var(--faint); font-size: 11px; }
.grid { stroke: var(--rule); stroke-width: 1; }
.line { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.band { opacity: .16; stroke: none; }
.tip { position: absolute; pointer-events: none; background: var(--paper); display: none;
       border: 1px solid var(--rule); border-radius: 6px; padding: 4px 8px; font-size: 12px;
       box-shadow: 0 2px 8px rgb(0 0 0 / .15); white-space: nowrap; z-index: 1; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; }
th, td { text-align: left; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--rule);
         vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.differs td { background: var(--mark); }
pre { white-space: pre-wrap; background: var(--panel); border: 1px solid var(--rule);
      border-radius: 8px; padding: 10px 12px; font-size: 13px; margin: 6px 0; }
.samples td { max-width: 34em; }
</style>
</head>
<body>
<main>
  <h1>bert.cu: <span id="title"></span></h1>
  <div class="faint" id="made"></div>
  <div class="legend" id="legend"></div>
  <div class="scroll"><table id="summary"></table></div>
  <h2>Curves</h2>
  <div class="controls">
    <label>smoothing <input id="smoothing" type="range" min="0" max="0.98" step="0.02" value="0.6"></label>
    <label><input id="logx" type="checkbox"> steps on a logarithmic scale</label>
    <span class="faint">Shaded: the range of what was logged. Move over a curve to read it.</span>
  </div>
  <div class="charts" id="charts"></div>
  <h2>Example predictions</h2>
  <div id="samples"></div>
  <h2>Configuration</h2>
  <div class="controls"><label id="onlybox"><input id="only" type="checkbox" checked> only what differs</label></div>
  <div class="scroll"><table id="config"></table></div>
  <h2>Environment</h2>
  <div id="environment"></div>
</main>
<script type="application/json" id="data">/*REPORT_DATA*/</script>
<script>
"use strict";
const report = JSON.parse(document.getElementById("data").textContent);
const runs = report.runs, shown = runs.map(() => true);
const make = (name, attributes = {}, text) => {
  const svg = ["svg", "path", "line", "text", "g"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name)
                   : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
};
const colour = i => `var(--run${i % 8})`;
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
  {key: "val_loss", name: "Validation loss"},
  {key: "val_perplexity", name: "Validation perplexity", log: true},
  {key: "val_accuracy", name: "Validation accuracy of masked tokens"},
  {key: "mlm_loss", name: "Masked language model loss", smooth: true, onlyWith: "nsp_loss"},
  {key: "nsp_loss", name: "Next sentence loss", smooth: true},
  {key: "val_nsp_accuracy", name: "Validation accuracy of next sentences"},
  {key: "learning_rate", name: "Learning rate"},
  {key: "grad_norm", name: "Gradient norm, before clipping", smooth: true, log: true},
  {key: "tokens_per_second", name: "Tokens per second", smooth: true, zero: true},
];

// Nice numbers within [low, high].
function ticks(low, high, log) {
  if (log) {
    const list = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); ++e)
      for (const m of [1, 2, 5]) list.push(m * 10 ** e);
    const inside = list.filter(x => x >= low && x <= high);
    return inside.length > 7 ? inside.filter(x => /^[1]/.test(x.toExponential())) : inside;
  }
  const rough = (high - low) / 5 || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= rough);
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

function draw(figure, chart) {
  const svg = figure.querySelector("svg");
  svg.replaceChildren();
  const W = svg.clientWidth || 360, H = 220, left = 52, right = 18, top = 10, bottom = 24;
  svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
  const logx = document.getElementById("logx").checked;
  const weight = chart.smooth ? +document.getElementById("smoothing").value : 0;
  const lines = [];
  runs.forEach((run, i) => {
    const series = run.series[chart.key];
    if (!series || !shown[i]) return;
    lines.push({i, run, series, mean: smoothed(series.mean, weight)});
  });
  if (!lines.length) return;
  const xs = lines.flatMap(l => l.series.step), ys = lines.flatMap(l => l.mean).filter(v => v !== null);
  if (!ys.length) return;
  const x0 = logx ? Math.max(1, Math.min(...xs)) : Math.min(...xs), x1 = Math.max(...xs, x0 + 1);
  let y0 = chart.zero ? 0 : Math.min(...ys), y1 = Math.max(...ys);
  const log = chart.log && y0 > 0;
  if (y0 === y1) { y0 -= Math.abs(y0) * .05 + 1e-12; y1 += Math.abs(y1) * .05 + 1e-12; }
  if (!log && !chart.zero) { const pad = (y1 - y0) * .04; y0 -= pad; y1 += pad; }
  const part = (v, a, b, isLog) => isLog ? Math.log(v / a) / Math.log(b / a) : (v - a) / (b - a);
  const px = v => left + (W - left - right) * part(Math.max(v, logx ? 1 : v), x0, x1, logx);
  const py = v => top + (H - top - bottom) * (1 - Math.min(1.02, Math.max(-.02, part(v, y0, y1, log))));
  for (const t of ticks(y0, y1, log)) {
    svg.append(make("line", {class: "grid", x1: left, x2: W - right, y1: py(t), y2: py(t)}));
    svg.append(make("text", {x: left - 6, y: py(t) + 4, "text-anchor": "end"}, short(t)));
  }
  for (const t of ticks(x0, x1, logx))
    svg.append(make("text", {x: px(t), y: H - 7, "text-anchor": "middle"}, short(t)));
  for (const l of lines) {
    const at = l.series.step.map(px);
    if (l.series.low) {
      const up = l.series.high.map((v, k) => v === null ? "" : `${k ? "L" : "M"}${at[k].toFixed(1)} ${py(v).toFixed(1)}`);
      const down = l.series.low.map((v, k) => v === null ? "" : `L${at[k].toFixed(1)} ${py(v).toFixed(1)}`).reverse();
      svg.append(make("path", {class: "band", fill: colour(l.i), d: up.join("") + down.join("") + "Z"}));
    }
    let pen = "M", d = "";
    l.mean.forEach((v, k) => {
      if (v === null) { pen = "M"; return; }
      d += `${pen}${at[k].toFixed(1)} ${py(v).toFixed(1)}`;
      pen = "L";
    });
    svg.append(make("path", {class: "line", stroke: colour(l.i), d}));
  }
  const cross = make("line", {class: "grid", y1: top, y2: H - bottom, visibility: "hidden"});
  svg.append(cross);
  const tip = figure.querySelector(".tip");
  svg.onpointermove = event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) * W / box.width;
    let best = null;
    for (const l of lines) l.series.step.forEach((s, k) => {
      if (best === null || Math.abs(px(s) - x) < Math.abs(px(best) - x)) best = s;
    });
    cross.setAttribute("x1", px(best)); cross.setAttribute("x2", px(best));
    cross.setAttribute("visibility", "visible");
    tip.replaceChildren(make("div", {class: "faint"}, `step ${best}`));
    for (const l of lines) {
      let near = 0;
      l.series.step.forEach((s, k) => { if (Math.abs(s - best) < Math.abs(l.series.step[near] - best)) near = k; });
      const row = make("div");
      row.append(make("span", {class: "swatch", style: `background:${colour(l.i)}`}),
                 ` ${runs.length > 1 ? l.run.name + " " : ""}${short(l.series.mean[near])}`);
      tip.append(row);
    }
    tip.style.display = "block";
    const place = event.clientX - box.left;
    tip.style.left = `${place > box.width / 2 ? place - tip.offsetWidth - 8 : place + 20}px`;
    tip.style.top = "40px";
  };
  svg.onpointerleave = () => { tip.style.display = "none"; cross.setAttribute("visibility", "hidden"); };
}

const figures = [];
for (const chart of CHARTS) {
  if (!runs.some(run => run.series[chart.key])) continue;
  if (chart.onlyWith && !runs.some(run => run.series[chart.onlyWith])) continue;
  const figure = make("figure");
  figure.append(make("figcaption", {}, chart.name), make("svg"), make("div", {class: "tip"}));
  document.getElementById("charts").append(figure);
  figures.push([figure, chart]);
}
const redraw = () => figures.forEach(([figure, chart]) => draw(figure, chart));

document.getElementById("title").textContent = runs.map(run => run.name).join(", ");
document.getElementById("made").textContent = report.made;
runs.forEach((run, i) => {
  const label = make("label"), box = make("input", {type: "checkbox"});
  box.checked = true;
  box.onchange = () => { shown[i] = box.checked; redraw(); };
  label.append(box, make("span", {class: "swatch", style: `background:${colour(i)}`}), run.name);
  document.getElementById("legend").append(label);
});

{
  const table = document.getElementById("summary"), head = make("tr");
  const columns = Object.keys(runs[0].summary);
  head.append(make("th", {}, "run"), ...columns.map(c => make("th", {class: "number"}, c)));
  table.append(head);
  for (const run of runs) {
    const row = make("tr");
    row.append(make("td", {}, run.name),
               ...columns.map(c => make("td", {class: "number"}, run.summary[c] ?? "")));
    table.append(row);
  }
}

for (const run of runs) {
  if (!run.predictions.length) continue;
  const place = document.getElementById("samples"), list = run.predictions;
  const controls = make("div", {class: "controls"}), label = make("label"), step = make("span", {class: "faint"});
  const slider = make("input", {type: "range", min: 0, max: list.length - 1, value: list.length - 1});
  const table = make("table", {class: "samples"}), box = make("div", {class: "scroll"});
  const show = () => {
    const chosen = list[+slider.value];
    step.textContent = `step ${chosen.step}`;
    table.replaceChildren();
    const head = make("tr");
    head.append(...["text", "masked", "predicted"].map(name => make("th", {}, name)));
    table.append(head);
    for (const sample of chosen.samples) {
      const row = make("tr");
      row.append(...["text", "masked", "predicted"].map(name => make("td", {}, sample[name] ?? "")));
      table.append(row);
    }
  };
  slider.oninput = show;
  label.append(runs.length > 1 ? `${run.name} ` : "", slider);
  controls.append(label, step);
  box.append(table);
  place.append(controls, box);
  show();
}
if (!document.getElementById("samples").children.length)
  document.getElementById("samples").append(make("p", {class: "faint"}, "None was logged."));

function configuration() {
  const table = document.getElementById("config"), keys = [...new Set(runs.flatMap(r => Object.keys(r.config)))];
  const only = runs.length > 1 && document.getElementById("only").checked;
  table.replaceChildren();
  const head = make("tr");
  head.append(make("th", {}, "key"), ...runs.map(run => make("th", {}, run.name)));
  table.append(head);
  for (const key of keys) {
    const values = runs.map(run => run.config[key] ?? "");
    const differs = new Set(values).size > 1;
    if (only && !differs) continue;
    const row = make("tr", differs ? {class: "differs"} : {});
    row.append(make("td", {}, key), ...values.map(value => make("td", {}, value)));
    table.append(row);
  }
}
if (runs.length < 2) document.getElementById("onlybox").style.display = "none";
document.getElementById("only").onchange = configuration;
configuration();

for (const run of runs) {
  const place = document.getElementById("environment");
  if (runs.length > 1) place.append(make("div", {}, run.name));
  place.append(make("pre", {}, run.environment));
}

document.getElementById("smoothing").oninput = redraw;
document.getElementById("logx").onchange = redraw;
window.onresize = redraw;
redraw();
</script>
</body>
</html>
)page";

}  // namespace bert
