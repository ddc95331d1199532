// The address bar holds the page's state: which view, and what it shows.
import { signal } from "@preact/signals";
import { html } from "./html.js";

const read = () => ({
  path: location.pathname,
  query: Object.fromEntries(new URLSearchParams(location.search)),
  entry: history.state?.entry ?? 0,
  place: history.state?.place ?? 0,
});

/** `{path, query, entry, place}` of the address; `entry` tells visits of one address apart, `place` counts them. */
export const route = signal(read());
/** What the view is called, for the window's title. */
export const viewTitle = signal("");
let entries = Date.now();

/** Asks whether the view may be left, and goes on if so. @type {((go: () => void) => void) | null} */
let leaving = null;
/** What is to come once the way back was undone. */
let undone = null;

/** Have `ask(go)` decide whether another address is gone to; returns what ends that. */
export function beforeLeaving(ask) {
  leaving = ask;
  return () => {
    if (leaving === ask) leaving = null;
  };
}

addEventListener("popstate", () => {
  const steps = read().place - route.value.place;
  const next = undone;
  undone = null;
  if (next) return next();
  if (!leaving || !steps) {
    route.value = read();
    return undefined;
  }
  // The browser has gone there already: first back, then the question.
  const ask = leaving;
  undone = () => ask(() => ((leaving = null), history.go(steps)));
  return history.go(-steps);
});
if (!history.state) history.replaceState({ entry: ++entries, place: 0 }, "");
route.value = read();
const firstEntry = history.state.entry;
/** Whether the way back leads to another address of this page, and not out of it. */
export const canGoBack = () => route.value.entry > firstEntry;

/** Go to an address of the page; `replace` leaves no way back to the one before. */
export function navigate(address, { replace = false } = {}) {
  const { entry, place } = route.value;
  const go = () => {
    if (replace) history.replaceState({ entry, place }, "", address);
    else history.pushState({ entry: ++entries, place: place + 1 }, "", address);
    route.value = read();
  };
  if (leaving && !replace) leaving(() => ((leaving = null), go()));
  else go();
}

/** Change parts of the query; a value that is empty leaves it. Typing replaces, choosing makes an entry. */
export function setQuery(changes, { replace = false } = {}) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined || value === null || value === "") query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  navigate(location.pathname + (text && `?${text}`), { replace });
}

/** A link within the page. With a modifier key the browser does what it does with links. */
export function Link({ href, children, ...rest }) {
  const go = (event) => {
    if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    navigate(href);
  };
  return html`<a href=${href} onClick=${go} ...${rest}>${children}</a>`;
}

/** The address of something whose name may hold anything: `at("albums", id)`. */
export const at = (...parts) => "/" + parts.map(encodeURIComponent).join("/");
