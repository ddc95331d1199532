import { html } from "../html.js";

export function Albums() {
  return html`<h1>Albums</h1>`;
}
