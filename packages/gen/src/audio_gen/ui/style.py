"""How the page looks, and how regions are drawn on a waveform."""

from __future__ import annotations

from audio_core import draw

CSS = """
.gradio-container{width:100%;max-width:1320px!important;margin:0 auto!important}
@media(max-width:640px){.gradio-container{padding:.75rem!important}}
#head h1{font-size:1.5rem;letter-spacing:-.01em;margin:0}
#head p{margin:.15rem 0 0;color:var(--body-text-color-subdued)}
.status{margin:0;min-height:1.6em;overflow-wrap:anywhere}
.status.error{color:var(--error-text-color);font-weight:600}
.status progress{display:block;width:100%;height:.5rem;margin-top:.4rem;appearance:none;border:0;
background:var(--border-color-primary)}
.status progress::-webkit-progress-bar{background:var(--border-color-primary)}
.status progress::-webkit-progress-value{background:var(--color-accent)}
.status progress::-moz-progress-bar{background:var(--color-accent)}
#history label{width:100%}
#history .wrap{flex-direction:column;flex-wrap:nowrap}
#history span{overflow-wrap:anywhere}
#player audio{width:100%}
#source{border:0}
#waveform{background:var(--block-background-fill)}
.told [data-testid=status-tracker]{display:none}
.plot{display:grid;grid-template-columns:3.4rem minmax(0,1fr) 3.8rem;grid-template-rows:11rem 1.6rem;margin-top:.75rem;
font-size:.75rem;line-height:1;color:var(--body-text-color-subdued);font-variant-numeric:tabular-nums}
.plot.wave{grid-template-rows:6rem 1.6rem}
.plot span{position:absolute;white-space:nowrap}
.plot .y,.plot .x,.plot .area,.plot .scale{position:relative}
.plot .y span{right:.5rem;transform:translateY(50%)}
.plot .x{grid-column:2}
.plot .x span{top:.5rem;transform:translateX(-50%)}
.plot .x em{position:absolute;left:100%;margin-left:.35em;font-style:normal}
.plot .area{border-left:1px solid var(--border-color-primary);border-bottom:1px solid var(--border-color-primary)}
.plot .area img,.plot .area svg{position:absolute;width:100%;height:100%;display:block;margin:0}
.plot .area path{fill:var(--color-accent)}
.plot .scale{width:.6rem;margin:0 2.6rem 0 .6rem;background:linear-gradient(to top,MAP)}
.plot .scale span{left:.9rem;transform:translateY(-50%)}
.plot .kept,.plot .drawn{position:absolute;top:0;bottom:0;background:var(--color-accent);opacity:.22}
#waveform .area{cursor:crosshair;touch-action:pan-y;user-select:none}
""".replace("MAP", ",".join(f"#{code}" for code in draw.ANCHORS))

DRAWING = """
let from = null, shade = null;
const place = (event, area) => {
  const box = area.getBoundingClientRect();
  return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
};
element.addEventListener('pointerdown', event => {
  const area = event.target.closest('.area');
  if (!area) return;
  event.preventDefault();
  from = {area, at: place(event, area)};
  shade = document.createElement('i');
  shade.className = 'drawn';
  area.append(shade);
});
window.addEventListener('pointermove', event => {
  if (!from) return;
  const [left, right] = [from.at, place(event, from.area)].sort((a, b) => a - b);
  shade.style.left = 100 * left + '%';
  shade.style.width = 100 * (right - left) + '%';
});
window.addEventListener('pointerup', event => {
  if (!from) return;
  const seconds = Number(from.area.dataset.seconds);
  const [start, end] = [from.at, place(event, from.area)].sort((a, b) => a - b).map(at => at * seconds);
  shade.remove();
  from = null;
  if (end - start > seconds / 200) trigger('select', {start, end});
});
"""
"""A region is added by dragging over the picture; shorter drags than half a percent are clicks."""
