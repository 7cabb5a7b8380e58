"""The style sheet of report.html: light and dark, from a phone to a wide screen, and print."""

CSS = """
:root { color-scheme: light dark;
  --paper:#fbfbfa; --card:#fff; --ink:#1d2126; --quiet:#68717c; --rule:#e3e5e8; --track:#edeff2; --accent:#1f6feb; --bad:#d1242f;
  --warn-paper:#fff4d6; --warn-ink:#6b4a00; --overlay:1;
  --s0:#1f6feb; --s1:#d9730d; --s2:#1a8a4a; --s3:#b5338a; --s4:#6f52d9; --s5:#0b8a99; --s6:#a6761d; --s7:#606a76; }
@media (prefers-color-scheme: dark) { :root {
  --paper:#101317; --card:#181c22; --ink:#e4e7eb; --quiet:#939da9; --rule:#2a3038; --track:#242a32; --accent:#6ea8fe; --bad:#ff6b6b;
  --warn-paper:#3a2f10; --warn-ink:#f5d58a;
  --s0:#6ea8fe; --s1:#f2a154; --s2:#5fcf8b; --s3:#ee7fc2; --s4:#ab96ff; --s5:#4fc7d4; --s6:#d6b35c; --s7:#a7b0bb; } }
* { box-sizing:border-box; }
body { margin:0; background:var(--paper); color:var(--ink); font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif; }
main, header.top { max-width:1240px; margin:0 auto; padding:0 24px; }
header.top { padding-top:36px; }
h1 { font-size:27px; line-height:1.2; margin:0 0 4px; overflow-wrap:anywhere; }
h2 { font-size:19px; margin:0 0 14px; }
h3 { font-size:15px; margin:18px 0 8px; }
a { color:var(--accent); }
section { background:var(--card); border:1px solid var(--rule); border-radius:10px; padding:20px 22px; margin:18px 0; }
.sub { color:var(--quiet); margin:0 0 16px; overflow-wrap:anywhere; }
.note { color:var(--quiet); font-size:13.5px; margin:6px 0 12px; max-width:86ch; }
.warn { background:var(--warn-paper); color:var(--warn-ink); border-radius:8px; padding:10px 14px; margin:10px 0; font-weight:550; }
nav { display:flex; flex-wrap:wrap; gap:4px 16px; margin:14px 0 0; font-size:14px; }
nav a { text-decoration:none; }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(132px,1fr)); gap:10px; margin:18px 0 6px; }
.tile { background:var(--card); border:1px solid var(--rule); border-radius:10px; padding:10px 14px; }
.tile b { display:block; font-size:25px; line-height:1.25; font-variant-numeric:tabular-nums; }
.tile span { color:var(--quiet); font-size:13px; }
dl.facts { display:grid; grid-template-columns:max-content 1fr; gap:3px 18px; margin:0 0 8px; font-size:14px; }
dl.facts dt { color:var(--quiet); } dl.facts dd { margin:0; overflow-wrap:anywhere; }
.scroll { overflow-x:auto; margin:0 -4px; padding:0 4px; -webkit-overflow-scrolling:touch; }
table { border-collapse:separate; border-spacing:0; font-size:13.5px; font-variant-numeric:tabular-nums; }
th, td { padding:5px 7px; border-bottom:1px solid var(--rule); text-align:right; white-space:nowrap; }
th:first-child, td:first-child { text-align:left; position:sticky; left:0; background:var(--card); z-index:1; }
thead th { color:var(--quiet); font-weight:550; vertical-align:bottom; }
thead th.class { height:112px; padding:0 2px 6px; vertical-align:bottom; }
thead th.class span { writing-mode:vertical-rl; transform:rotate(180deg); display:inline-block; text-align:left; }
thead th.class i { display:block; width:12px; height:12px; border-radius:3px; margin:6px auto 0; }
td.heat { min-width:35px; padding:5px 3px; text-align:center; } td.best { font-weight:700; }
tr.part td:first-child { padding-left:24px; color:var(--quiet); }
tr.mean td { font-weight:700; border-top:2px solid var(--rule); }
.charts { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(100%,350px),1fr)); gap:10px 28px; }
.charts > div { min-width:0; }
svg { width:100%; height:auto; display:block; font:11.5px system-ui,sans-serif; }
svg text { fill:var(--ink); } svg text.axis, svg text.quiet { fill:var(--quiet); }
svg .grid { stroke:var(--rule); stroke-width:1; } svg .guide { stroke:var(--quiet); stroke-dasharray:4 4; }
svg .zero { stroke:var(--quiet); stroke-width:1.3; }
svg .curve { fill:none; stroke-width:2; stroke-linejoin:round; } svg .faint { fill:none; stroke-width:1; opacity:.28; }
svg .track { fill:var(--track); } svg .bar { stroke:var(--quiet); stroke-width:.6; } svg .number { font-variant-numeric:tabular-nums; }
svg .whisker { stroke-width:2.5; stroke-linecap:round; }
svg.matrix { min-width:520px; } svg .hit { fill:var(--s0); } svg .miss { fill:var(--bad); }
svg .cell-frame { fill:var(--track); opacity:.45; }
svg text.cell { font-size:10px; } svg text.cell.on { fill:#fff; font-weight:600; }
@media (prefers-color-scheme: dark) { svg text.cell.on { fill:#0d1117; } }
.legend { list-style:none; display:flex; flex-wrap:wrap; gap:3px 14px; margin:8px 0; padding:0; font-size:13px; }
.legend i { display:inline-block; width:11px; height:11px; border-radius:3px; margin-right:6px; }
.tabs { display:none; flex-wrap:wrap; gap:6px; margin:0 0 12px; } .live .tabs { display:flex; }
.live .pane { display:none; } .live .pane.shown { display:block; } .live .pane > h3:first-child { display:none; }
button { font:inherit; font-size:14px; color:var(--ink); background:none; border:1px solid var(--rule); border-radius:99px;
  padding:4px 13px; cursor:pointer; }
button[aria-selected=true] { background:var(--accent); border-color:var(--accent); color:var(--card); }
.shot { border-top:1px solid var(--rule); padding:10px 0 12px; content-visibility:auto; contain-intrinsic-size:auto 220px; }
.shot p { margin:0 0 6px; font-size:13.5px; overflow-wrap:anywhere; } .shot p span { color:var(--quiet); }
.panels { display:grid; grid-template-columns:repeat(4,minmax(0,1fr)); gap:8px; }
figure { margin:0; } figcaption { color:var(--quiet); font-size:12px; }
.stack { position:relative; display:block; width:100%; padding:0; border:0; border-radius:5px; overflow:hidden; cursor:zoom-in;
  background:var(--track); }
.stack img { width:100%; display:block; } .stack img + img { position:absolute; inset:0; height:100%; image-rendering:pixelated; }
.stack.label img + img { opacity:var(--overlay); } .stack.error img:first-child { filter:grayscale(1) brightness(.75); }
.mix { display:flex; gap:10px; align-items:center; font-size:13.5px; margin:6px 0 10px; } .mix input { accent-color:var(--accent); }
dialog { border:0; padding:0; background:#000; max-width:100vw; max-height:100vh; width:min(96vw,1600px); }
dialog::backdrop { background:rgba(0,0,0,.8); } dialog .stack { border-radius:0; cursor:zoom-out; }
details { margin:10px 0; } summary { cursor:pointer; color:var(--accent); font-size:14px; }
pre { overflow:auto; background:var(--track); padding:12px; border-radius:8px; font-size:12.5px; line-height:1.45; max-height:420px; }
footer { color:var(--quiet); font-size:13px; padding:8px 0 40px; overflow-wrap:anywhere; }
@media (max-width:760px) {
  main, header.top { padding:0 12px; } header.top { padding-top:20px; } h1 { font-size:22px; }
  section { padding:14px 12px; margin:12px 0; border-radius:8px; } .panels { grid-template-columns:repeat(2,minmax(0,1fr)); }
  .tile b { font-size:21px; } .tiles { grid-template-columns:repeat(auto-fit,minmax(100px,1fr)); gap:8px; }
  dl.facts { grid-template-columns:1fr; gap:0; } dl.facts dd { margin-bottom:7px; }
}
@media print { .live .pane { display:block; } .tabs, nav, .mix { display:none !important; } section { break-inside:avoid; } }
"""
