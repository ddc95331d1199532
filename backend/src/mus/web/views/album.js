import { html } from "../html.js";

export function Album() {
  return html`<h1>Album</h1>`;
}
