// Calls of mus' HTTP API. Everything under /api/v1 speaks JSON, its errors are RFC 9457 problem details.
import { t } from "./text.js";

const PREFIX = "/api/v1";

/** What the API answered instead of what was asked for. `message` is for the person who looks at the page. */
export class Problem extends Error {
  /** @param {number} status 0 when the server could not be reached @param {object} body the problem details */
  constructor(status, body = {}) {
    super(body.detail ?? body.title ?? `HTTP ${status}`);
    this.status = status;
    this.body = body;
    this.category = body.category ?? null;
    this.actions = body.recovery_actions ?? [];
    this.fields = body.errors ?? [];
    this.details = body.details ?? {};
    this.retryAfter = null;
  }
}

/** Called when an answer says that nobody is signed in. */
let onSignedOut = () => {};
export function whenSignedOut(callback) {
  onSignedOut = callback;
}

/**
 * Ask for `path` (below /api/v1) and return the JSON of the answer; null for one without a body.
 * Throws Problem; an aborted request throws the browser's AbortError.
 */
export async function call(method, path, { body, query, signal, headers } = {}) {
  const options = { method, signal, headers: { Accept: "application/json", "X-Mus": "1", ...headers } };
  if (body instanceof Blob) {
    options.body = body;
  } else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(PREFIX + path + queryString(query), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: t("live.unreachable") });
  }
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const problem = new Problem(answer.status, await answer.json().catch(() => ({})));
  problem.retryAfter = Number(answer.headers.get("Retry-After")) || null;
  if (answer.status === 401) onSignedOut();
  throw problem;
}

/** What stands against fetching `url`, of which nothing is kept: null, or a Problem. An audio element tells no reason. */
export async function problemWith(url) {
  const control = new AbortController();
  try {
    const answer = await fetch(url, { headers: { Accept: "*/*", Range: "bytes=0-0" }, cache: "no-store", signal: control.signal });
    if (answer.ok) return null;
    if (answer.status === 401) onSignedOut();
    return new Problem(answer.status, await answer.json().catch(() => ({})));
  } catch {
    return new Problem(0, { detail: t("live.unreachable") });
  } finally {
    control.abort();
  }
}

export const get = (path, query, options) => call("GET", path, { query, ...options });

/** As one answer: the list of GET `path` from its beginning on, of about `most` items or all there are. */
export async function getMany(path, query, { most, ...options }) {
  const whole = await get(path, { ...query, limit: 500 }, options);
  while (whole.next_cursor && whole.items.length < most) {
    const page = await get(path, { ...query, limit: 500, cursor: whole.next_cursor }, options);
    Object.assign(whole, { items: [...whole.items, ...page.items], next_cursor: page.next_cursor });
  }
  return whole;
}

export const post = (path, body, options) => call("POST", path, { body, ...options });
export const patch = (path, body, options) => call("PATCH", path, { body, ...options });
export const put = (path, body, options) => call("PUT", path, { body, ...options });
export const del = (path, options) => call("DELETE", path, options);

/** `?a=1&b=2` of what has a value; a list gives its name several times; empty without any. */
export function queryString(query) {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value === undefined || value === null || value === "") continue;
    for (const each of Array.isArray(value) ? value : [value]) pairs.append(name, each);
  }
  const text = pairs.toString();
  return text && `?${text}`;
}

/** The file of a track; in another `format` ("opus", "mp3") also from the second `start` on. */
export const streamUrl = (id, format, start) => `${PREFIX}/tracks/${id}/stream${queryString({ format, start: start || null })}`;
/** A cover comes in two sizes, of 300 and 1000 pixels. */
export const coverUrl = (id, size = 300) => `${PREFIX}/tracks/${id}/cover${queryString({ size })}`;
export const EVENTS_URL = `${PREFIX}/events`;

/**
 * POST `file` to `path`, telling `onProgress` of the bytes that went; `control` (an AbortController) breaks it off.
 * As `call` otherwise. The browser's fetch does not tell how far a body is.
 */
export function upload(path, query, file, { onProgress, control }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", PREFIX + path + queryString(query));
    request.responseType = "json";
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("X-Mus", "1");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => onProgress(event.loaded);
    request.onload = () => {
      if (request.status < 300) return resolve(request.response);
      if (request.status === 401) onSignedOut();
      reject(new Problem(request.status, request.response ?? {}));
    };
    request.onerror = () => reject(new Problem(0, { detail: t("live.unreachable") }));
    request.onabort = () => reject(new DOMException("", "AbortError"));
    control.signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}
