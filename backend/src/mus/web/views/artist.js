import { html } from "../html.js";

export function Artist() {
  return html`<h1>Artist</h1>`;
}
