import { html } from "../html.js";

export function Recent() {
  return html`<h1>Recent</h1>`;
}
