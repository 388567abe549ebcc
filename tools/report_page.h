// The page that report fills: HTML and styles, in which /*REPORT_SCRIPT*/ and /*REPORT_DATA*/ are
// replaced. It needs nothing from elsewhere.
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
  --paper: #ffffff; --ink: #1c2024; --faint: #5c6570; --rule: #dfe3e8; --panel: #f7f8fa;
  --mark: #fff0b8; --good: #0b7a4b; --bad: #b3261e; --event: #6b4fa0;
  --run0: #0072b2; --run1: #c24f00; --run2: #00805d; --run3: #b0508a;
  --run4: #7a5f00; --run5: #2b83b5; --run6: #6a52b8; --run7: #5c6770;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --ink: #e6e8ea; --faint: #9aa4ae; --rule: #2c3238; --panel: #1b1f24;
    --mark: #4a3f12; --good: #4cc38a; --bad: #f2887f; --event: #b8a1ea;
    --run0: #56b4e9; --run1: #f08c4a; --run2: #2fc79b; --run3: #e19bc4;
    --run4: #d9b93a; --run5: #8fd0f5; --run6: #b49cf0; --run7: #aab4be;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
       font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 22px; margin: 0 0 4px; }
h2 { font-size: 17px; margin: 36px 0 10px; }
h3 { font-size: 14px; margin: 16px 0 6px; }
.faint { color: var(--faint); }
:focus-visible { outline: 2px solid var(--run0); outline-offset: 2px; border-radius: 4px; }
.legend, .controls { display: flex; flex-wrap: wrap; gap: 6px 20px; align-items: center; }
.legend { margin: 14px 0; }
.controls { margin: 8px 0 14px; }
.legend label, .controls label { display: flex; align-items: center; gap: 6px; cursor: pointer; }
.key { width: 26px; height: 10px; flex: none; vertical-align: middle; }
.glyph { width: 12px; height: 12px; flex: none; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 370px), 1fr));
          gap: 16px; }
figure { margin: 0; padding: 12px 12px 6px; background: var(--panel); border: 1px solid var(--rule);
         border-radius: 8px; position: relative; min-width: 0; }
figure.wide { margin-top: 16px; }
figcaption { font-weight: 600; font-size: 14px; }
figure > svg { display: block; width: 100%; touch-action: pan-y; }
svg text { fill: var(--faint); font-size: 11px; }
.grid { stroke: var(--rule); stroke-width: 1; }
.cross { stroke: var(--faint); stroke-width: 1; stroke-dasharray: 2 2; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.raw { fill: none; stroke-width: 1; opacity: .3; }
.band { opacity: .16; stroke: none; }
.bar { stroke-width: 1.2; opacity: .8; }
.event { stroke: var(--event); stroke-width: 1; opacity: .55; }
.event.bad { stroke: var(--bad); }
.shape { fill: var(--event); }
.shape.bad { fill: var(--bad); }
.tip { position: absolute; pointer-events: none; background: var(--paper); display: none;
       border: 1px solid var(--rule); border-radius: 6px; padding: 4px 8px; font-size: 12px;
       box-shadow: 0 2px 8px rgb(0 0 0 / .18); z-index: 1; max-width: 320px; }
.scroll { overflow-x: auto; }
#events .scroll { max-height: 420px; overflow-y: auto; }
#summary th { white-space: nowrap; }
table { border-collapse: collapse; font-size: 14px; }
th, td { text-align: left; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--rule);
         vertical-align: top; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.differs td, tr.differs th { background: var(--mark); }
#config th[scope=row] { font-weight: 400; font-family: ui-monospace, monospace; font-size: 13px; }
#config td { font-family: ui-monospace, monospace; font-size: 13px; }
pre { white-space: pre-wrap; background: var(--panel); border: 1px solid var(--rule);
      border-radius: 8px; padding: 10px 12px; font-size: 13px; margin: 6px 0; }
details { border: 1px solid var(--rule); border-radius: 8px; margin: 8px 0; background: var(--panel);
          padding: 8px 12px; }
summary { cursor: pointer; }
summary b { text-decoration: underline; text-decoration-thickness: 2px; text-underline-offset: 3px; }
.timeline { margin-top: 8px; font-size: 13px; }
.timeline th, .timeline td { padding: 2px 8px; border: 1px solid var(--rule); white-space: nowrap;
                             background: var(--paper); }
.timeline th[scope=row] { position: sticky; left: 0; }
.timeline .share { color: var(--faint); font-size: 11px; }
.timeline .right { color: var(--good); font-weight: 600; }
.timeline tr.now td { background: var(--mark); }
</style>
</head>
<body>
<main>
  <h1>bert.cu: <span id="title"></span></h1>
  <div class="faint" id="made"></div>
  <div class="legend" id="legend" role="group" aria-label="Runs that are shown"></div>
  <div class="scroll" tabindex="0" role="region" aria-label="Summary"><table id="summary"></table></div>
  <h2>Curves</h2>
  <div class="controls">
    <label>smoothing <input id="smoothing" type="range" min="0" max="0.98" step="0.02" value="0.9"></label>
    <label><input id="logx" type="checkbox"> steps on a logarithmic scale</label>
    <span id="marks" class="controls" role="group" aria-label="Events that are marked" style="margin:0"></span>
  </div>
  <p class="faint">Faint: what was logged, shaded where it is a range; bold: its moving average. Point at a
    curve to read it, or focus it and use the arrow keys.</p>
  <div class="charts" id="charts"></div>
  <div id="heat"></div>
  <h2>Example predictions</h2>
  <div class="controls" id="samplebox"><label><input id="every" type="checkbox"> every evaluation</label>
    <span class="faint">Underlined words were masked. Below each text, what was predicted for them at
      successive evaluations, and with what probability; green and marked with a tick where it was right.</span></div>
  <div id="samples"></div>
  <h2>Events</h2>
  <div id="events"></div>
  <h2>Configuration</h2>
  <div class="controls"><label id="onlybox"><input id="only" type="checkbox" checked> only what differs</label></div>
  <div class="scroll" tabindex="0" role="region" aria-label="Configuration"><table id="config"></table></div>
  <h2>Environment</h2>
  <div id="environment"></div>
</main>
<script type="application/json" id="data">/*REPORT_DATA*/</script>
<script>
/*REPORT_SCRIPT*/
</script>
</body>
</html>
)page";

}  // namespace bert
