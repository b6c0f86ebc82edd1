"""How a page looks. Colours of text have a contrast of at least 4.5 to what is behind them, light and dark."""

from gitml.review.drawing import SHRINKING

_STYLE = """
:root{--page:#f7f7f5;--card:#fff;--ink:#1d2127;--quiet:#59616b;--line:#dfe1e4;--strong:#c3c8ce;--link:#0b57d0;
--good:#0f6b33;--good-back:#e5f4ea;--bad:#a81c2b;--bad-back:#fcebec;--warn:#7a4d00;--warn-back:#fff3d6;
--note:#6336a8;--note-back:#f1ebfb;--code:#f1f2f4;--shade:#0003;
--sans:system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",sans-serif;
--mono:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono","DejaVu Sans Mono",monospace}
@media (prefers-color-scheme:dark){:root{--page:#101317;--card:#171b21;--ink:#e4e7eb;--quiet:#9ba5b0;--line:#2a3038;
--strong:#454d58;--link:#8ab4f8;--good:#73d98c;--good-back:#14291b;--bad:#ff9a9a;--bad-back:#351b1e;--warn:#efc45a;
--warn-back:#2e2611;--note:#c4a7f5;--note-back:#261d38;--code:#20262e;--shade:#000a}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0 auto;max-width:1240px;padding:0 20px;background:var(--page);color:var(--ink);
font:15px/1.55 var(--sans)}
a{color:var(--link)}
code,pre{font-family:var(--mono);font-size:.92em;unicode-bidi:isolate}
:focus-visible{outline:2px solid var(--link);outline-offset:2px;border-radius:4px}
main:focus{outline:none}
.skip{position:absolute;left:12px;top:-60px;padding:8px 14px;background:var(--card);border:1px solid var(--strong);
border-radius:8px;z-index:2}
.skip:focus{top:12px}
header{padding:40px 0 8px}
h1{margin:0 0 20px;font-size:28px;line-height:1.2;font-weight:650;letter-spacing:-.01em}
h2{margin:0 0 12px;font-size:18px;line-height:1.3;font-weight:650}
h3{margin:0 0 8px;font-size:15px;font-weight:600;overflow-wrap:anywhere}
.sides{display:grid;grid-template-columns:1fr 1fr;gap:12px;margin:0 0 16px}
.three{grid-template-columns:1fr 1fr 1fr}
.sides>div{min-width:0;padding:12px 16px;background:var(--card);border:1px solid var(--line);border-radius:12px}
dt{color:var(--quiet);font-size:13px}
dd{margin:0;overflow-wrap:anywhere;color:var(--quiet)}
dd strong{font-weight:600;color:var(--ink)}
time{white-space:nowrap}
time::before{content:"· "}
.verdict{display:flex;flex-wrap:wrap;gap:8px;margin:0;padding:0;list-style:none}
.verdict li{padding:4px 12px;border-radius:8px;background:var(--card);border:1px solid var(--line);
overflow-wrap:anywhere;max-width:100%}
.verdict .good{color:var(--good);background:var(--good-back);border-color:transparent;font-weight:550}
.verdict .bad{color:var(--bad);background:var(--bad-back);border-color:transparent;font-weight:550}
.good{color:var(--good)}.bad,dd strong.bad{color:var(--bad)}.quiet{color:var(--quiet)}
.body{display:grid;grid-template-columns:minmax(0,1fr);gap:20px;padding:16px 0 8px}
nav ul{display:flex;flex-wrap:wrap;gap:2px 4px;margin:0 -10px;padding:0;list-style:none}
nav a{display:block;padding:5px 10px;border-radius:8px;color:var(--quiet);text-decoration:none}
nav a:hover{background:var(--card);color:var(--ink);text-decoration:underline}
main{display:grid;grid-template-columns:minmax(0,1fr);gap:20px}
section{padding:18px 20px 20px;background:var(--card);border:1px solid var(--line);border-radius:14px;
scroll-margin-top:12px}
.blocks{display:grid;grid-template-columns:minmax(0,1fr);gap:20px}
.charts{grid-template-columns:repeat(auto-fill,minmax(min(100%,212px),1fr));gap:24px}
.block{min-width:0}
.scroll{overflow-x:auto;max-width:100%;
background:linear-gradient(to right,var(--card) 40%,transparent) 0 0/32px 100% no-repeat local,
linear-gradient(to left,var(--card) 40%,transparent) 100% 0/32px 100% no-repeat local,
linear-gradient(to right,var(--shade),transparent) 0 0/10px 100% no-repeat,
linear-gradient(to left,var(--shade),transparent) 100% 0/10px 100% no-repeat}
.drawing{max-height:80vh;overflow:auto}
table{border-collapse:collapse;min-width:100%;font-variant-numeric:tabular-nums}
th,td{padding:7px 22px 7px 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line);font-weight:400;
max-width:44ch;overflow-wrap:break-word}
th:last-child,td:last-child{padding-right:0;max-width:64ch}
th:last-child:not(.number),td:last-child:not(.number){width:100%;min-width:26ch}
thead th,thead td{padding-top:0;color:var(--quiet);font-size:13px;white-space:nowrap;border-color:var(--strong)}
tbody tr:last-child>*{border-bottom:0}
tbody th{min-width:7ch}
.number{text-align:right}.number,.word{white-space:nowrap}
td .good,td .bad{font-weight:550}
.notes{margin:0 0 10px;padding:0;list-style:none;color:var(--quiet);overflow-wrap:anywhere}
.notes:last-child{margin-bottom:0}
.notes .bad{color:var(--bad)}.notes .plain code{color:var(--ink)}
#failures .notes{display:flex;flex-wrap:wrap;gap:0 18px}
pre{margin:0;padding:12px 14px;background:var(--code);border-radius:10px;line-height:1.5;max-height:30em;overflow:auto}
details>summary{width:fit-content;list-style-position:inside;padding:3px 10px 3px 6px;margin:0 0 0 -6px;
border-radius:8px;color:var(--quiet);cursor:pointer;max-width:100%;overflow-wrap:anywhere}
details>summary:hover{color:var(--ink);background:var(--code)}
details[open]>summary{margin-bottom:8px}
.graph{display:block;height:auto;margin:2px 0 8px}
svg text{font-family:var(--sans)}
.node rect{fill:var(--card);stroke:var(--strong)}
.node .name{fill:var(--ink);font-size:13px;font-weight:600;text-anchor:middle}
.node .state{fill:var(--quiet);font-size:12px;text-anchor:middle}
.data rect{fill:var(--page)}
.data .name{font-weight:400}
.touched rect{stroke-width:1.6}
.touched.good rect{stroke:var(--good);fill:var(--good-back)}.stage.good .state{fill:var(--good)}
.warn rect{stroke:var(--warn);fill:var(--warn-back)}.warn .state{fill:var(--warn)}
.node.bad rect{stroke:var(--bad);fill:var(--bad-back)}.node.bad .state{fill:var(--bad)}
.note rect{stroke:var(--note);fill:var(--note-back)}.note .state{fill:var(--note)}
.data.touched rect{stroke:var(--link)}.data.touched .state{fill:var(--link)}
.edge{fill:none;stroke:var(--strong);stroke-width:1.4}
.edge.loud{stroke:var(--quiet)}
.edge.arrow{fill:var(--strong);stroke:none}.edge.arrow.loud{fill:var(--quiet)}
.chart{display:block;width:100%;max-width:420px;height:auto;margin:0 0 4px}
.grid{stroke:var(--line)}
.axis{fill:var(--quiet);font-size:11px}
.axis.low,.axis.end{text-anchor:end}
.line{fill:none;stroke:var(--link);stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
.gate{fill:none;stroke:var(--bad);stroke-dasharray:4 4}
.point{fill:var(--card);stroke:var(--link);stroke-width:1.5}
.newest{fill:var(--link)}
figure{margin:0;min-width:0}
figcaption{color:var(--quiet);font-size:13px}
img{max-width:100%;height:auto;background:#fff}
footer{padding:8px 0 32px;color:var(--quiet);font-size:13px}
@media (min-width:1080px){.body{grid-template-columns:168px minmax(0,1fr);gap:28px;padding-top:24px}
nav{position:sticky;top:20px;align-self:start}nav ul{flex-direction:column;flex-wrap:nowrap}}
@media (max-width:640px){body{padding:0 12px}header{padding-top:24px}h1{font-size:24px;margin-bottom:14px}
.sides{grid-template-columns:1fr}section{padding:14px 14px 16px;border-radius:12px}
table,tbody{display:block}thead{display:none}
tbody tr{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:6px 14px;
padding:10px 0;border-bottom:1px solid var(--line)}
tbody tr:first-child{padding-top:0}tbody tr:last-child{border-bottom:0;padding-bottom:0}
tbody th,tbody td{grid-column:1/-1;min-width:0!important;max-width:none!important;width:auto!important;padding:0;
border:0;text-align:left!important;white-space:normal!important;overflow-wrap:anywhere}
tbody th{font-weight:600}
tbody td.number,tbody td.word{grid-column:auto}
tbody td:not([data-of]){grid-column:1/-1}tbody td:empty{display:none}
td[data-of]::before{content:attr(data-of);display:block;color:var(--quiet);font-size:12px;line-height:1.3}
.plot svg{max-width:100%;height:auto;font-size:16px}}
GRAPHS
@media print{.scroll{overflow:visible;max-height:none}
body{max-width:none;background:#fff}nav,.skip{display:none}section{break-inside:avoid;border:0;padding:0}}
@media (forced-colors:active){.touched rect{stroke-width:3}}
"""
STYLE = _STYLE.replace(
    "GRAPHS", "".join(f".g{layers}{{max-width:100%;min-width:{least}px}}" for layers, least in SHRINKING.items())
)
"""The style sheet of a page."""
