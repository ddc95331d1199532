import { html } from "../html.js";

export function Failures() {
  return html`<h1>Failures</h1>`;
}
