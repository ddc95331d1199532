// A waveform as a picture: its lowest and highest values, as one shape.
import { html } from "../html.js";

/** `peaks` as the API gives them: lowest and highest of each piece by turns, from -1 to 1. */
export function Waveform({ peaks, label }) {
  const pieces = peaks.length / 2;
  const point = (index) => `${index >> 1} ${(1 - peaks[index]).toFixed(3)}`;
  const high = Array.from({ length: pieces }, (_, i) => point(2 * i + 1));
  const low = Array.from({ length: pieces }, (_, i) => point(2 * i)).reverse();
  return html`<svg class="waveform" viewBox="0 0 ${pieces} 2" preserveAspectRatio="none" role="img" aria-label=${label}>
    <path d=${`M${[...high, ...low].join("L")}Z`} />
  </svg>`;
}
