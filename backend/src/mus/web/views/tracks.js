import { html } from "../html.js";

export function Tracks() {
  return html`<h1>Tracks</h1>`;
}
