// How far something is.
import { html } from "../html.js";
import { percent } from "../format.js";

/** `value` from 0 to 1; null for a length that is not known. */
export function Progress({ value, label }) {
  const known = value !== null && value !== undefined;
  return html`<div class=${known ? "progress" : "progress unknown"} role="progressbar" aria-label=${label} aria-valuemin="0" aria-valuemax="100"
    aria-valuenow=${known ? Math.floor(value * 100) : undefined} aria-valuetext=${known ? percent(value) : undefined}>
    <i style=${{ "--part": known ? value : 0.3 }} />
  </div>`;
}
