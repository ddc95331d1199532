// The address bar holds the page's state: which view, and what it shows.
import { signal } from "@preact/signals";
import { html } from "./html.js";

const read = () => ({
  path: location.pathname,
  query: Object.fromEntries(new URLSearchParams(location.search)),
  entry: history.state?.entry ?? 0,
});

/** `{path, query, entry}` of the address; `entry` tells visits of one address apart. */
export const route = signal(read());
/** What the view is called, for the window's title. */
export const viewTitle = signal("");
let entries = Date.now();

addEventListener("popstate", () => {
  route.value = read();
});
if (!history.state) history.replaceState({ entry: ++entries }, "");
route.value = read();
const firstEntry = history.state.entry;
/** Whether the way back leads to another address of this page, and not out of it. */
export const canGoBack = () => route.value.entry > firstEntry;

/** Go to an address of the page; `replace` leaves no way back to the one before. */
export function navigate(address, { replace = false } = {}) {
  const method = replace ? "replaceState" : "pushState";
  history[method]({ entry: replace ? route.value.entry : ++entries }, "", address);
  route.value = read();
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
