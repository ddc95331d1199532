import { html } from "../html.js";

export function Search() {
  return html`<h1>Search</h1>`;
}
