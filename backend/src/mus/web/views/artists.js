import { html } from "../html.js";

export function Artists() {
  return html`<h1>Artists</h1>`;
}
