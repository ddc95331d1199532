import { html } from "../html.js";

export function Workers() {
  return html`<h1>Workers</h1>`;
}
