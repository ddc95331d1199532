// What was fetched, kept: a view that is come back to shows at once what it showed, and asks again behind it.
import { useEffect, useReducer, useRef } from "preact/hooks";
import { get, queryString } from "./api.js";

const KEPT = 200;
/** @type {Map<string, any>} answers by address; the latest last */
const kept = new Map();
/** @type {Set<(prefixes: string[]) => void>} the resources in use */
const users = new Set();

/** Ask again for everything in sight whose path begins so; for all without an argument. */
export function refresh(...prefixes) {
  for (const key of kept.keys()) if (matches(key, prefixes)) kept.delete(key);
  for (const user of users) user(prefixes);
}

/** Call back when `refresh` names this address; returns what ends it. */
export function whileInUse(key, callback) {
  const user = (prefixes) => matches(key, prefixes) && callback();
  users.add(user);
  return () => users.delete(user);
}

const matches = (key, prefixes) => !prefixes.length || prefixes.some((prefix) => key.startsWith(prefix));

/**
 * GET `path` with `query` (or what `read` makes of it), again whenever they change or `refresh` names it, and each `every` milliseconds.
 * Returns `{data, error, loading}`; `data` is what is known meanwhile: null only before the first answer.
 * A `path` of null asks for nothing.
 */
export function useResource(path, query, { every, read = get } = {}) {
  const key = path === null ? null : path + queryString(query);
  const [, redraw] = useReducer((count) => count + 1, 0);
  const state = useRef({ key: undefined, path: undefined, data: null });
  if (state.current.key !== key) {
    // The list before stays in sight while another order or search of it is fetched.
    const before = state.current.path === path ? state.current.data : null;
    state.current = { key, path, data: kept.get(key) ?? before, error: null, loading: key !== null };
  }
  useEffect(() => {
    if (key === null) return undefined;
    const control = new AbortController();
    const load = async () => {
      try {
        const data = await read(path, query, { signal: control.signal });
        kept.delete(key);
        kept.set(key, data);
        if (kept.size > KEPT) kept.delete(kept.keys().next().value);
        state.current = { key, path, data, error: null, loading: false };
      } catch (error) {
        if (control.signal.aborted) return;
        // What is not there any more is not shown as if it were.
        if (error.status === 404) kept.delete(key);
        state.current = { ...state.current, data: error.status === 404 ? null : state.current.data, error, loading: false };
      }
      if (!control.signal.aborted) redraw();
    };
    const forget = whileInUse(key, load);
    load();
    const timer = every && setInterval(() => document.hidden || load(), every);
    return () => {
      forget();
      clearInterval(timer);
      control.abort();
    };
  }, [key, every]);
  return state.current;
}
