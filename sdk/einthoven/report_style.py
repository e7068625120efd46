"""The look of a report: one style sheet, light and dark, screen and print. Nothing is fetched from anywhere."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;
--page:#f3f5f7;--card:#fff;--ink:#17212b;--soft:#55636f;--line:#dbe1e6;--accent:#0a5a8a;
--routine:#1c6bb0;--routine-bg:#e3eefa;--elevated:#b35300;--elevated-bg:#fdebd8;--urgent:#a1124f;--urgent-bg:#fbe2ec;
--inconclusive:#5d6872;--inconclusive-bg:#eceff1;
--sheet:#fffaf8;--mm1:#f8dcd6;--mm5:#efb4aa;--trace:#101820;--label:#8a5a52;--wave:#7d93a5;--drive:#0a5a8a}
@media (prefers-color-scheme:dark){:root{
--page:#0f1419;--card:#171e25;--ink:#e4eaf0;--soft:#9aa8b4;--line:#2a343d;--accent:#6cb8e6;
--routine:#7db8ee;--routine-bg:#16293b;--elevated:#f4a259;--elevated-bg:#3a2613;--urgent:#ff8db8;--urgent-bg:#3d1527;
--inconclusive:#a3b0ba;--inconclusive-bg:#232c34;
--sheet:#10171b;--mm1:#1d2b2f;--mm5:#33494d;--trace:#d9f2e6;--label:#7fa39c;--wave:#5d7486;--drive:#6cb8e6}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",sans-serif}
main,header,footer{max-width:296mm;margin:0 auto;padding:0 8mm}
header{padding-top:9mm}
.brand{display:flex;align-items:center;gap:10px;color:var(--accent);font-weight:600;letter-spacing:.02em}
.brand svg{width:54px;height:22px}
.brand path{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
h1{font-size:27px;line-height:1.2;margin:10px 0 6px;font-weight:650;letter-spacing:-.01em}
h2{font-size:17px;margin:0 0 12px;font-weight:650}
h3{font-size:15px;margin:0;font-weight:650}
p{margin:0 0 8px}
.meta{color:var(--soft);margin:0;display:flex;flex-wrap:wrap;gap:2px 18px}
.notice{margin:14px 0 0;padding:8px 14px;border-left:4px solid var(--accent);background:var(--card);
border-radius:0 8px 8px 0;color:var(--soft)}
.notice strong{color:var(--ink)}
.badge{display:inline-block;margin-left:12px;padding:3px 11px;border-radius:99px;font-size:12.5px;font-weight:650;
letter-spacing:.06em;vertical-align:5px;color:var(--urgent);background:var(--urgent-bg);border:1.5px solid currentColor}
.strip .badge{margin-left:0;padding:1px 8px;font-size:11px;vertical-align:1px}
h2 .badge{padding:1px 9px;font-size:11.5px;vertical-align:2px}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:18px 20px 20px;margin:16px 0}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px}
.card{border:1px solid var(--line);border-radius:10px;padding:12px 14px}
.card dt,.small{color:var(--soft);font-size:13px}
.card dd{margin:0}
.card .value{font-size:23px;font-weight:620;line-height:1.3;font-variant-numeric:tabular-nums}
.overall{display:grid;grid-template-columns:minmax(220px,270px) 1fr;gap:14px 26px}
@media (max-width:760px){.overall{grid-template-columns:1fr}}
.tier{display:flex;flex-direction:column;justify-content:center;gap:2px;
border-radius:12px;padding:16px 18px;border:1.5px solid var(--c);background:var(--b);color:var(--c)}
.tier .word{display:flex;align-items:center;gap:10px;font-size:28px;font-weight:680;line-height:1.25}
.tier .small{color:inherit}
.mark{width:1em;height:1em;flex:none;fill:var(--c);vertical-align:-.12em}
.mark .hollow,.cell .hollow{fill:none;stroke:var(--c);stroke-width:2}
.t-routine{--c:var(--routine);--b:var(--routine-bg)}.t-elevated{--c:var(--elevated);--b:var(--elevated-bg)}
.t-urgent{--c:var(--urgent);--b:var(--urgent-bg)}.t-inconclusive{--c:var(--inconclusive);--b:var(--inconclusive-bg)}
.says{color:var(--c);font-weight:600;white-space:nowrap}
ul.reasons{list-style:none;margin:0;padding:0}
ul.reasons li{display:grid;grid-template-columns:20px 1fr;gap:10px;padding:9px 0;border-top:1px solid var(--line)}
ul.reasons li:first-child{border-top:0;padding-top:2px}
ul.reasons .mark{margin-top:5px}
.timeline{display:block;width:100%;height:auto;overflow:visible}
.timeline .envelope{fill:var(--wave)}
.cell rect{fill:var(--b);stroke:var(--c);stroke-width:1}
.cell.t-inconclusive>rect{stroke-dasharray:3 2.5}
.cell .shape{fill:var(--c)}
.cell text{fill:var(--c);font-size:13px;font-weight:650;text-anchor:middle}
.cell .hollow{stroke-width:1.8;stroke-dasharray:none}
.timeline a:hover rect,.timeline a:focus rect{stroke-width:2.5}
.tick{stroke:var(--soft);fill:none;stroke-width:1}
.axis{fill:var(--soft);font-size:12px;font-variant-numeric:tabular-nums}
.hatch{stroke:var(--soft);stroke-width:1.5}
.legend{display:flex;flex-wrap:wrap;gap:4px 22px;margin:12px 0 0;padding:0;list-style:none;font-size:13px}
.legend li{display:flex;align-items:center;gap:6px}
.strip{margin-top:22px}
.strip:first-of-type{margin-top:0}
.strip-head{display:flex;flex-wrap:wrap;align-items:baseline;gap:2px 16px;margin-bottom:7px}
.scroll{overflow-x:auto;border-radius:6px}
.scroll:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.ecg{display:block}
.ecg .sheet{fill:var(--sheet)}
.ecg .mm1{stroke:var(--mm1);stroke-width:5;fill:none}
.ecg .mm5{stroke:var(--mm5);stroke-width:8;fill:none}
.ecg .trace{stroke:var(--trace);stroke-width:15;fill:none;stroke-linejoin:round;stroke-linecap:round}
.ecg .cal{stroke:var(--trace);stroke-width:13;fill:none}
.ecg .tick{stroke:var(--label);stroke-width:10}
.ecg .beat{fill:var(--label)}
.ecg .poor{fill:var(--inconclusive-bg);fill-opacity:.6}
.ecg .drive{fill:var(--drive);fill-opacity:.16}
.ecg .drive-bar,.swatch .drive-bar{fill:var(--drive)}
.swatch{width:26px;height:15px;vertical-align:-2px;margin-right:6px}
.swatch .drive{fill:var(--drive);fill-opacity:.16;stroke:var(--drive)}
.ecg text.remark{fill:var(--trace);font-weight:650}
.why{margin:8px 0 0;font-size:13.5px}
.why p{margin:0 0 4px}
.why ul{margin:0;padding-left:20px;color:var(--soft)}
.why li:first-child{color:var(--ink)}
.ecg text{fill:var(--label);font-size:135px;font-variant-numeric:tabular-nums}
.ecg .gap{fill:var(--inconclusive-bg);fill-opacity:.85}
.ecg text.gap{fill:var(--inconclusive);fill-opacity:1}
table{border-collapse:collapse;width:100%;font-size:14px}
caption{text-align:left;color:var(--soft);font-size:13px;padding-bottom:6px}
th{text-align:left;font-weight:600;color:var(--soft);font-size:13px;
border-bottom:1.5px solid var(--line);padding:4px 12px 6px 0}
td{border-bottom:1px solid var(--line);padding:6px 12px 6px 0;vertical-align:top}
tr:last-child td{border-bottom:0}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
code,pre,.hash{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;font-size:12.5px}
.hash{overflow-wrap:anywhere}
pre{overflow-x:auto;background:var(--page);border:1px solid var(--line);border-radius:8px;
padding:12px 14px;margin:10px 0 0}
details{border-top:1px solid var(--line);padding-top:10px;margin-top:14px}
summary{cursor:pointer;font-weight:600;color:var(--accent)}
details table{margin-top:10px}
blockquote{margin:8px 0 0;padding:10px 14px;border-left:4px solid var(--accent);background:var(--page);
border-radius:0 8px 8px 0}
.ok{color:var(--routine);font-weight:620}.bad{color:var(--urgent);font-weight:620}
footer{color:var(--soft);font-size:13px;padding-top:4px;padding-bottom:12mm}
@media print{
:root{color-scheme:light;--page:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#ccc;--accent:#0a5a8a;
--routine:#1c6bb0;--routine-bg:#e3eefa;--elevated:#b35300;--elevated-bg:#fdebd8;--urgent:#a1124f;--urgent-bg:#fbe2ec;
--inconclusive:#5d6872;--inconclusive-bg:#eceff1;
--sheet:#fff;--mm1:#f8dcd6;--mm5:#efb4aa;--trace:#000;--label:#8a5a52;--wave:#7d93a5;--drive:#0a5a8a}
@page{size:A4 landscape;margin:10mm}
body{font-size:10.5pt;print-color-adjust:exact;-webkit-print-color-adjust:exact}
main,header,footer{max-width:none;padding:0}
section{border:0;padding:0;margin:6mm 0;border-radius:0}
.strip,.card,.tier,tr,.timeline,.why{break-inside:avoid}
.scroll{overflow:visible}
}
"""
