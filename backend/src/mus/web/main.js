// The page's beginning: who is there, then the page itself.
import { render } from "preact";
import { html } from "./html.js";
import { App } from "./app.js";
import { checked } from "./session.js";
import "./double_clicks.js";

await checked;
const root = document.getElementById("mus");
root.replaceChildren();
render(html`<${App} />`, root);
