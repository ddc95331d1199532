// Short notices at the edge: what an action came to, and how far it is.
import { signal } from "@preact/signals";
import { html } from "../html.js";
import { t } from "../text.js";
import { Link, at } from "../router.js";
import { IconButton } from "./icon.js";
import { Progress } from "./progress.js";

const SHOWN_MS = 6_000;
/** Whoever is to press a button needs the time to find it. */
const WITH_ACTION_MS = 12_000;
const toasts = signal([]);
let last = 0;

/**
 * Say `text`; `job` (an id) adds a link to it, `action` is `{label, run}`; `bad` is read out at once and stays.
 * With `part`, a signal from 0 to 1, it shows how far something is, and stays until `change` takes that away.
 * Returns what `change` and `dismiss` know it by.
 */
export function say(text, { job, action, part, bad = false } = {}) {
  const id = ++last;
  toasts.value = [...toasts.value.slice(-3), { id, text, job, action, part, bad }];
  leave(id);
  return id;
}

/** Say what went wrong. */
export const sayFault = (error) => say(error.message, { bad: true });

/** Say it otherwise: `changes` as of `say`, with `text`. */
export function change(id, changes) {
  toasts.value = toasts.value.map((toast) => (toast.id === id ? { ...toast, ...changes } : toast));
  leave(id);
}

export const dismiss = (id) => {
  toasts.value = toasts.value.filter((toast) => toast.id !== id);
};

function leave(id) {
  const toast = toasts.value.find((each) => each.id === id);
  if (toast && !toast.bad && !toast.part) setTimeout(() => dismiss(id), toast.action ? WITH_ACTION_MS : SHOWN_MS);
}

export function Toasts() {
  return html`<div class="toasts" aria-live="polite">
    ${toasts.value.map((toast) => html`<${Toast} key=${toast.id} ...${toast} />`)}
  </div>`;
}

function Toast({ id, text, job, action, part, bad }) {
  return html`
    <div class=${bad ? "toast bad" : "toast"} role=${bad ? "alert" : "status"}>
      <span>${text}</span>
      ${part && html`<${Progress} value=${part.value || null} label=${text} />`}
      ${job && html`<${Link} href=${at("jobs", job)}>${t("common.seeJob")}<//>`}
      ${action && html`<button class="text-button" onClick=${() => (dismiss(id), action.run())}>${action.label}</button>`}
      <${IconButton} icon="close" label=${t("common.dismiss")} size=${16} onClick=${() => dismiss(id)} />
    </div>
  `;
}
