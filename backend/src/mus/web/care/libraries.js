import { html } from "../html.js";

export function Libraries() {
  return html`<h1>Libraries</h1>`;
}
