import { html } from "../html.js";

export function Duplicates() {
  return html`<h1>Duplicates</h1>`;
}
