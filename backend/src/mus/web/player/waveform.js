// How a track looks: bars by its loudest samples, drawn once, of which the played part has another colour.
import { html } from "../html.js";

/**
 * The outline of `count` bars in a box `count` wide and 2 high, of what `GET /tracks/{id}/waveform` gave: lowest and
 * highest sample of each piece by turns. The loudest bar fills the box, as the look tells of a track's parts, not of
 * its loudness.
 */
export function outline({ pieces, peaks }, count) {
  const bars = Array.from({ length: Math.min(count, pieces) }, () => 0);
  for (let piece = 0; piece < pieces; piece++) {
    const bar = Math.floor((piece * bars.length) / pieces);
    bars[bar] = Math.max(bars[bar], -peaks[2 * piece], peaks[2 * piece + 1]);
  }
  const loudest = Math.max(...bars) || 1;
  const width = count / bars.length;
  return bars
    .map((bar, i) => {
      const half = Math.max(0.06, bar / loudest);
      return `M${(i * width).toFixed(2)} ${(1 - half).toFixed(3)}h${(width * 0.6).toFixed(2)}v${(2 * half).toFixed(3)}h${(-width * 0.6).toFixed(2)}z`;
    })
    .join("");
}

/** `path` of `outline`; how much was played is the CSS variable --part of what is around. */
export function Waveform({ path, count }) {
  const drawing = (name) => html`<svg class=${name} viewBox=${`0 0 ${count} 2`} preserveAspectRatio="none" aria-hidden="true"><path d=${path} /></svg>`;
  return html`<div class="waveform">${drawing("to-come")}${drawing("played")}</div>`;
}
