"""The look of a report: a column of cards, light or dark with the reader's system, readable on a phone."""

STYLE = """
:root { color-scheme: light dark; --bg: #f7f5f0; --card: #fffefb; --ink: #1c2026; --soft: #616a75;
  --line: #e2ded4;
  --ours: #0e7c70; --other: #c3c8cd; --good: #137a3b; --bad: #b3261e; --none: #8a5a00; --screen: #0d1117;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
@media (prefers-color-scheme: dark) { :root { --bg: #0f1215; --card: #171b20; --ink: #e7e9ec;
  --soft: #98a2ae;
  --line: #2a3037; --ours: #3ecfbb; --other: #4b545f; --good: #5bd68a; --bad: #ff8a80; --none: #f0b95a; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--bg); color: var(--ink); font: 16px/1.55 var(--sans) }
main { max-width: 1040px; margin: 0 auto; padding: 28px 18px 60px }
h1 { font-size: clamp(1.7rem, 5vw, 2.7rem); line-height: 1.15; letter-spacing: -.02em; margin: .3em 0 .35em;
  text-wrap: balance; overflow-wrap: anywhere }
h2 { font-size: 1.25rem; margin: 0 0 .7em; letter-spacing: -.01em }
p { margin: .5em 0; max-width: 72ch; overflow-wrap: anywhere }
.lead { font-size: 1.1rem; color: var(--soft) }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 20px;
  margin: 16px 0 }
.verdict { display: inline-block; margin: 0; padding: .15em .8em; border-radius: 99px; border: 1.5px solid;
  font-weight: 600 }
.good { color: var(--good) } .bad { color: var(--bad) } .none { color: var(--none) }

.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 14px }
.tiles div { border-left: 3px solid var(--ours); padding: 2px 0 2px 14px }
.tiles b { display: block; font-size: 2.1rem; line-height: 1.15; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums }
.tiles span { display: block; font-weight: 600 }
.tiles small { display: block; color: var(--soft); font-size: .86rem; line-height: 1.35 }

.screen { display: block; max-width: 100%; height: auto; border-radius: 10px; background: var(--screen);
  margin: 14px 0 }
.wide { overflow-x: auto; margin: 12px 0 }
.strip { display: flex; align-items: flex-start; gap: 6px; margin-bottom: 6px }
.strip > b { flex: 0 0 92px; align-self: center; position: sticky; left: 0; background: var(--card);
  padding: 4px 6px 4px 0; font-size: .86rem; overflow-wrap: anywhere }
.strip figure { margin: 0; flex: 0 1 104px; min-width: 64px }
.strip img { display: block; width: 100%; image-rendering: pixelated; border-radius: 5px;
  background: var(--screen) }
.strip figcaption { font-size: .74rem; color: var(--soft); text-align: center }

.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr));
  gap: 22px 28px }
.charts figure { margin: 0; max-width: 480px }
.charts figcaption { font-weight: 600; margin-bottom: 6px }
svg { display: block; width: 100%; height: auto; overflow: visible }
svg text { font: 12px var(--sans); fill: var(--soft) }
svg .value { fill: var(--ink); font-weight: 600 }
svg .ours { fill: var(--ours) } svg .other { fill: var(--other) } svg .dot { fill: var(--ink);
  opacity: .45 }
svg .tick { stroke: var(--ink); stroke-width: 1.5 } svg .axis { stroke: var(--line); stroke-width: 1 }
svg .line { stroke: var(--ours); stroke-width: 2; fill: none } svg .stem { stroke: var(--ours);
  stroke-width: 3 }
svg .front { fill: var(--card); stroke: var(--ours); stroke-width: 2.5 }
svg .leader { stroke: var(--soft); stroke-width: .75; opacity: .7 }
svg .limit { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 5 4 }

table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line);
  vertical-align: top }
tr:last-child td { border-bottom: 0 }
th { color: var(--soft); font-weight: 600; white-space: nowrap }
table:has(th:nth-child(4)) { min-width: 600px }
table:has(th:nth-child(11)) { min-width: 900px }
table:has(th:nth-child(11)) td:last-child { min-width: 11em }
td:first-child { white-space: nowrap }
td.good, td.bad, td.none { font-weight: 600; white-space: nowrap }
code, pre { font: .86em ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace }
pre { overflow-x: auto; background: var(--bg); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px }
summary { cursor: pointer }
summary h2 { display: inline; margin: 0 }
@media (max-width: 520px) {
  main { padding: 16px 10px 40px }
  section { padding: 16px 14px; border-radius: 12px }
  .strip figure { min-width: 76px } .strip > b { flex-basis: 84px; font-size: .8rem }
  .tiles { grid-template-columns: 1fr 1fr } .tiles b { font-size: 1.65rem }
}
"""
