// Lists of any length of which only the parts in sight are fetched, wherever one scrolls to. What was fetched is kept:
// a list that is come back to has its height and its rows at once, and asks for them again behind.
import { useEffect, useMemo, useRef } from "preact/hooks";
import { signal } from "@preact/signals";
import { get, queryString } from "./api.js";
import { whileInUse } from "./resource.js";

/** Rows of one request. */
const SIZE = 100;
/** So many rows before and behind those in sight are fetched too. */
const AHEAD = 50;
const KEPT_WINDOWS = 40;
const KEPT_LISTS = 20;
/** Who drags the scrollbar passes hundreds of windows: what is still in sight after this is fetched. */
const SOON_MS = 60;
/** Most rows of one request of the API. */
const MOST = 500;
/** Lists whose answers do not tell how long the whole is, and where that is asked for. */
const COUNT = "count";
const COUNTS = { "/tracks": "/tracks/count" };

/** @type {Map<string, WindowedList>} by address; the latest last */
const kept = new Map();

class WindowedList {
  #windows = new Map();
  #fresh = new Set();
  #asked = new Map();
  #stale = new Set();
  #range = [0, 0];
  #timer = null;
  #users = 0;
  #known = signal({ total: null, error: null });

  constructor(path, query) {
    this.path = path;
    this.query = query;
  }

  /** Rows there are; null before the first answer. Who draws these is drawn again when there is more to show. */
  get total() {
    return this.#known.value.total;
  }

  get error() {
    return this.#known.value.error;
  }

  /** The row at `index`; null while it is fetched. */
  at = (index) => this.#known.value && (this.#windows.get(Math.floor(index / SIZE))?.[index % SIZE] ?? null);

  /** Rows from `first` to before `last` are in sight: fetch what lacks, and no longer what is out of sight. */
  show = (first, last) => {
    const end = Math.max(1, Math.min(last + AHEAD, this.total ?? 1));
    this.#range = [Math.floor(Math.max(0, first - AHEAD) / SIZE), Math.floor((end - 1) / SIZE)];
    for (const [number, control] of this.#asked) {
      if (number === COUNT || this.#inSight(number)) continue;
      control.abort();
      this.#asked.delete(number);
      this.#stale.delete(number);
    }
    this.#timer ??= setTimeout(this.#fetch, SOON_MS);
  };

  /** Fetch up to `count` rows from `first` on, for an action on them: all that lack, in as few requests as can be. */
  async rows(first, count) {
    const last = Math.min(first + count, this.total ?? first + count);
    const found = [];
    for (let index = first; index < last; index++) {
      const known = this.at(index);
      if (!known) break;
      found.push(known);
    }
    while (first + found.length < last) {
      const { items } = await this.#get(first + found.length, Math.min(MOST, last - first - found.length));
      found.push(...items);
      if (!items.length) break;
    }
    return found;
  }

  /** About `count` rows from anywhere in the list. */
  async sample(count) {
    if (this.total <= count) return this.rows(0, count);
    const starts = Array.from({ length: count / SIZE }, () => Math.floor(Math.random() * (this.total - SIZE)));
    const parts = await Promise.all(starts.map((start) => this.#get(start, SIZE)));
    return [...new Map(parts.flatMap(({ items }) => items).map((item) => [item.id, item])).values()];
  }

  /** Be in use; returns what ends it. */
  use = () => {
    this.#users++;
    const forget = whileInUse(this.path, this.again);
    this.again();
    return () => {
      forget();
      if (--this.#users) return;
      clearTimeout(this.#timer);
      this.#timer = null;
      for (const control of this.#asked.values()) control.abort();
      this.#asked.clear();
    };
  };

  /** What is known may be old: ask for what is in sight. What is being answered just now is asked once more then. */
  again = () => {
    this.#fresh.clear();
    this.#stale = new Set(this.#asked.keys());
    if (this.#users) this.#fetch();
  };

  #inSight = (number) => number >= this.#range[0] && number <= this.#range[1];

  #get = (offset, limit, signal) => get(this.path, { ...this.query, offset, limit }, { signal });

  #fetch = () => {
    clearTimeout(this.#timer);
    this.#timer = null;
    for (let number = this.#range[0]; number <= this.#range[1]; number++) {
      if (!this.#fresh.has(number) && !this.#asked.has(number)) this.#fetchOne(number);
    }
    if (COUNTS[this.path] && !this.#fresh.has(COUNT) && !this.#asked.has(COUNT)) this.#count();
  };

  #fetchOne = (number) =>
    this.#ask(number, async (signal) => {
      const { items, total = this.total } = await this.#get(number * SIZE, SIZE, signal);
      if (signal.aborted) return {};
      this.#windows.delete(number);
      this.#windows.set(number, items);
      this.#forget();
      return { total };
    });

  #count = () => {
    const { sort, ...wanted } = this.query;
    return this.#ask(COUNT, (signal) => get(COUNTS[this.path], wanted, { signal }));
  };

  /** Ask for one thing, and tell who draws the list what is known by then. */
  async #ask(what, ask) {
    const control = new AbortController();
    this.#asked.set(what, control);
    let known;
    try {
      const { total } = await ask(control.signal);
      known = { total, error: null };
    } catch (error) {
      known = { total: this.total, error };
    }
    if (control.signal.aborted) return;
    this.#asked.delete(what);
    this.#known.value = known;
    if (this.#stale.delete(what)) this.#fetch();
    else if (!known.error) this.#fresh.add(what);
  }

  #forget() {
    for (const number of this.#windows.keys()) {
      if (this.#windows.size <= KEPT_WINDOWS) return;
      if (this.#inSight(number)) continue;
      this.#windows.delete(number);
      this.#fresh.delete(number);
    }
  }
}

function listOf(path, query) {
  const key = path + queryString(query);
  const list = kept.get(key) ?? new WindowedList(path, query);
  kept.delete(key);
  kept.set(key, list);
  if (kept.size > KEPT_LISTS) kept.delete(kept.keys().next().value);
  return list;
}

/**
 * The list that GET `path` with `query` has in windows (`offset`, `limit`, `total`). While another order or search of it
 * is asked for, the one before stays, and `loading` says so.
 * @returns {{list: WindowedList, loading: boolean}}
 */
export function useWindows(path, query) {
  const list = useMemo(() => listOf(path, query), [path + queryString(query)]);
  const shown = useRef(list);
  useEffect(list.use, [list]);
  if (list.total !== null || list.error || shown.current.path !== list.path) shown.current = list;
  return { list: shown.current, loading: shown.current !== list || (list.total === null && !list.error) };
}
