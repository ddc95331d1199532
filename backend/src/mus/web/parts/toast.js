// Short notices at the edge: what an action came to.
import { signal } from "@preact/signals";
import { html } from "../html.js";
import { t } from "../text.js";
import { Link, at } from "../router.js";
import { IconButton } from "./icon.js";

const SHOWN_MS = 6_000;
const toasts = signal([]);
let last = 0;

/** Say `text`; `job` (an id) adds a link to it, `action` is `{label, run}`; `bad` is read out at once and stays. */
export function say(text, { job, action, bad = false } = {}) {
  const id = ++last;
  toasts.value = [...toasts.value.slice(-3), { id, text, job, action, bad }];
  if (!bad) setTimeout(() => dismiss(id), SHOWN_MS);
}

/** Say what went wrong. */
export const sayFault = (error) => say(error.message, { bad: true });

const dismiss = (id) => {
  toasts.value = toasts.value.filter((toast) => toast.id !== id);
};

export function Toasts() {
  return html`<div class="toasts" aria-live="polite">
    ${toasts.value.map(({ id, text, job, action, bad }) => html`
      <div class=${bad ? "toast bad" : "toast"} role=${bad ? "alert" : "status"} key=${id}>
        <span>${text}</span>
        ${job && html`<${Link} href=${at("jobs", job)}>${t("common.seeJob")}<//>`}
        ${action && html`<button class="text-button" onClick=${() => (dismiss(id), action.run())}>${action.label}</button>`}
        <${IconButton} icon="close" label=${t("common.dismiss")} size=${16} onClick=${() => dismiss(id)} />
      </div>`)}
  </div>`;
}
