// A list that the API gives in pages: the first now, more on demand, and the newest looked for again when it changed.
import { useEffect, useReducer, useRef } from "preact/hooks";
import { html } from "../html.js";
import { get, queryString } from "../api.js";
import { t } from "../text.js";
import { whileInUse } from "../resource.js";

const PAGE = 50;

/**
 * Pages of GET `path` with `query`. Returns `{items, more, error, loading}`: `items` is null before the first
 * answer, `more` null when there are no more. `identity` of an item tells it apart: a field's name, or a function.
 */
export function usePaged(path, query, { identity = "id", limit = PAGE } = {}) {
  const key = path + queryString(query);
  const identityOf = typeof identity === "function" ? identity : (item) => item[identity];
  const [, redraw] = useReducer((count) => count + 1, 0);
  const state = useRef({ key: null });
  if (state.current.key !== key) state.current = { key, items: null, cursor: null, error: null, loading: true };
  const fetchPage = async (signal, cursor) => {
    try {
      const page = await get(path, { ...query, limit, cursor }, { signal });
      // "More" of another list than the one that is shown by now.
      if (state.current.key !== key) return;
      const { items, cursor: before } = state.current;
      state.current = { key, error: null, loading: false, ...joined(items, page, cursor, before, identityOf) };
    } catch (error) {
      if (signal?.aborted || state.current.key !== key) return;
      state.current = { ...state.current, error, loading: false };
    }
    if (!signal?.aborted) redraw();
  };
  useEffect(() => {
    const control = new AbortController();
    fetchPage(control.signal, null);
    const forget = whileInUse(key, () => fetchPage(control.signal, null));
    return () => {
      forget();
      control.abort();
    };
  }, [key]);
  const { items, cursor, error, loading } = state.current;
  return { items, error, loading, more: cursor && (() => fetchPage(undefined, cursor)) };
}

/** What is shown, with a page that came: at its end, or at its head if it is the first one again. */
function joined(items, page, cursor, before, identityOf) {
  if (!items) return { items: page.items, cursor: page.next_cursor };
  const fresh = new Set(page.items.map(identityOf));
  const rest = items.filter((item) => !fresh.has(identityOf(item)));
  if (cursor) return { items: [...rest, ...page.items], cursor: page.next_cursor };
  // Whatever was on the first page and is not any more has gone.
  return page.next_cursor === null || items.length <= page.items.length
    ? { items: page.items, cursor: page.next_cursor }
    : { items: [...page.items, ...items.slice(page.items.length).filter((item) => !fresh.has(identityOf(item)))], cursor: before };
}

/** The button below the list. */
export function More({ list }) {
  return list.more && html`<div class="more"><button class="button plain" onClick=${list.more}>${t("common.more")}</button></div>`;
}
