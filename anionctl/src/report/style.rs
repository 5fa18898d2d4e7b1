// SPDX-License-Identifier: Apache-2.0
//! The style of the page, for light and dark displays and for paper.

/// The colours for held, pooled and free memory can be distinguished with any kind of colour
/// vision.
pub(super) const STYLE: &str = "\
:root{--page:#f6f7f9;--card:#fff;--ink:#1f2328;--soft:#59636e;--rule:#d9dee3;--held:#0072b2;--tint:#0072b233;\
--pooled:#e69f00;--free:#dfe4e8;--hit:#009e73;--miss:#cc79a7;--other:#9aa5b1;--bad:#c8321f}\
@media(prefers-color-scheme:dark){:root{--page:#14171a;--card:#1d2125;--ink:#e4e7ea;--soft:#9aa4ae;--rule:#353b41;\
--held:#4ba3dc;--tint:#4ba3dc33;--free:#39414a;--other:#6b7580;--bad:#ff7b6b}}\
*{box-sizing:border-box}\
body{font:15px/1.45 system-ui,\"DejaVu Sans\",sans-serif;max-width:66rem;margin:0 auto;padding:1.5rem 1rem;\
background:var(--page);color:var(--ink)}\
h1{font-size:1.7rem;margin:0}h2{font-size:1.25rem;margin:0}h2 small{font-weight:400;color:var(--soft)}\
h3{font-size:.95rem;margin:0 0 .3rem;font-weight:600}p{margin:.2rem 0;color:var(--soft)}\
section,.summary{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:1rem 1.2rem;\
margin:1rem 0;break-inside:avoid}\
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(7rem,1fr));gap:.5rem;margin:.7rem 0;padding:0}\
.tiles div{border-left:3px solid var(--rule);padding-left:.6rem}\
.tiles dt{font-size:.8rem;color:var(--soft)}.tiles dd{margin:0;font-size:1.15rem;font-weight:600}\
.tiles .bad{border-color:var(--bad)}\
.figures{display:grid;grid-template-columns:repeat(2,1fr);gap:1rem 2rem}.wide{grid-column:1/-1}\
@media(max-width:44rem){.figures{grid-template-columns:1fr}}\
figure{margin:0;min-width:0}figcaption{font-size:.85rem;color:var(--soft)}\
svg{display:block;width:100%;height:auto;font-size:12px;font-variant-numeric:tabular-nums}\
svg text{fill:var(--soft)}svg .value{fill:var(--ink)}\
.axis{stroke:var(--rule);stroke-width:1}.line{fill:none;stroke:var(--held);stroke-width:1.5}.area{fill:var(--tint)}\
.bar,.held{fill:var(--held)}.hit{fill:var(--hit)}.miss{fill:var(--miss)}.pooled{fill:var(--pooled)}.free{fill:var(--free)}.other{fill:var(--other)}\
.refused{stroke:var(--bad);stroke-width:2}.pressure{stroke:var(--pooled);stroke-width:2;stroke-dasharray:4 3}\
.key{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin:0 .35em 0 0;vertical-align:-.05em}\
.key.held{background:var(--held)}.key.pooled{background:var(--pooled)}.key.free{background:var(--free)}\
.key.hit{background:var(--hit)}.key.miss{background:var(--miss)}.key.other{background:var(--other)}\
.key.refused{background:var(--bad);width:.2em}.key.pressure{background:var(--pooled);width:.2em}\
summary{color:var(--soft);cursor:pointer}summary h2{display:inline;color:var(--ink)}figcaption table{margin-top:.6rem}\
.legend span{margin-right:1.2rem;white-space:nowrap}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
td,th{text-align:right;padding:.25rem .5rem;border-top:1px solid var(--rule)}th{font-weight:400;color:var(--soft);border:0}\
td:first-child,th:first-child{text-align:left}";
