import { html } from "../html.js";

export function PlayerBar() {
  return html`<section class="player" aria-label="Player"></section>`;
}
