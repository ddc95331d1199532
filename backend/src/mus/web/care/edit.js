import { html } from "../html.js";

export function Edit() {
  return html`<h1>Edit</h1>`;
}
