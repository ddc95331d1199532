// What a view shows instead of a list: nothing there yet and what to do, a fault, or the wait for the first answer.
import { html } from "../html.js";
import { t } from "../text.js";
import { refresh } from "../resource.js";
import { Icon } from "./icon.js";

/** `children` are what one can do about it. */
export function Empty({ icon, title, text, children }) {
  return html`
    <div class="empty">
      <${Icon} name=${icon} size=${48} />
      <h2>${title}</h2>
      ${text && html`<p>${text}</p>`}
      ${children && html`<div class="actions">${children}</div>`}
    </div>
  `;
}

/** What the API said when it could not answer, with what it recommends; `retry` asks for all in sight if not told what. */
export function Fault({ error, retry = () => refresh() }) {
  return html`
    <div class="empty" role="alert">
      <${Icon} name="failures" size=${48} />
      <h2>${t("common.error")}</h2>
      <p>${error.message}</p>
      ${error.actions?.length > 0 && html`<ul>${error.actions.map((action) => html`<li key=${action}>${action}</li>`)}</ul>`}
      <div class="actions"><button class="button" onClick=${retry}>${t("common.retry")}</button></div>
    </div>
  `;
}

/** Grey bars where rows will be. */
export function Skeleton({ rows = 8 }) {
  return html`<div class="skeleton" role="status" aria-label=${t("common.loading")}>${Array.from({ length: rows }, (_, i) => html`<i key=${i} />`)}</div>`;
}
