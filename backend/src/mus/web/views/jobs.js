import { html } from "../html.js";

export function Jobs() {
  return html`<h1>Jobs</h1>`;
}
