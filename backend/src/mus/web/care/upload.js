import { html } from "../html.js";

export function Upload() {
  return html`<h1>Upload</h1>`;
}
