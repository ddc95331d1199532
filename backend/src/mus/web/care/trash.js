import { html } from "../html.js";

export function Trash() {
  return html`<h1>Trash</h1>`;
}
