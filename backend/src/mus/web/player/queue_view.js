import { html } from "../html.js";

export function Queue() {
  return html`<h1>Queue</h1>`;
}
