// What happens, as it happens: one stream of server-sent events for the whole page, and what it says of jobs.
import { computed, signal } from "@preact/signals";
import { EVENTS_URL } from "./api.js";
import { refresh } from "./resource.js";
import { checkSession, session } from "./session.js";

/** "connecting", "open", or "lost" while the browser tries again. */
export const connection = signal("connecting");
/** Jobs that wait, run or retry, and the last that ended, by id: what `GET /events` tells. @type {Signal<Map>} */
export const jobs = signal(new Map());
/** Those that run now. */
export const running = computed(() => [...jobs.value.values()].filter((job) => job.state === "running" || job.state === "waiting"));
const ENDED_KEPT = 50;
const AGAIN_MS = 3_000;
const LIBRARY_EVENTS = ["track_added", "track_updated", "track_deleted", "library_offline", "library_online", "library_added", "library_updated", "library_removed"];
const JOB_EVENTS = ["progress", "completed", "error", "cancelled"];

/** @type {Map<string, Set<Function>>} */
const listeners = new Map();

/**
 * Call back with each event of a type; returns what ends it. Besides those of the stream: "begun" (a job is new, or
 * in another state) and "ended" (a job's last message, whichever).
 */
export function on(type, callback) {
  if (!listeners.has(type)) listeners.set(type, new Set());
  listeners.get(type).add(callback);
  return () => listeners.get(type).delete(callback);
}

let source = null;
let timer = null;
let lastEventId = null;

/** Begin, or begin again. */
export function connect() {
  disconnect();
  source = new EventSource(EVENTS_URL);
  source.onopen = () => {
    connection.value = "open";
  };
  source.onerror = (event) => {
    if (isOfJob(event)) return;
    connection.value = "lost";
    // A browser gives up for good after an answer that is no stream, as while a server starts.
    if (source?.readyState === EventSource.CLOSED) timer = setTimeout(again, AGAIN_MS);
  };
  source.addEventListener("snapshot", replaceAll);
  source.addEventListener("reset", replaceAll);
  for (const type of JOB_EVENTS) {
    source.addEventListener(type, (event) => isOfJob(event) && take(type, JSON.parse(event.data)));
  }
  for (const type of LIBRARY_EVENTS) source.addEventListener(type, (event) => tell(type, JSON.parse(event.data)));
}

/** A job's "error" has the name of the browser's own for a connection that broke: that one brings nothing. */
const isOfJob = (event) => event.data !== undefined;

/** An event source tells no status: whether the session has ended is asked for. */
async function again() {
  const wanted = source;
  await checkSession();
  if (source === wanted && session.value !== "out") connect();
}

export function disconnect() {
  clearTimeout(timer);
  source?.close();
  source = null;
}

function replaceAll(event) {
  const first = lastEventId === null;
  lastEventId = event.lastEventId;
  jobs.value = new Map(JSON.parse(event.data).jobs.map((job) => [job.job_id, job]));
  // What was said while nobody listened is not said again: look.
  if (!first) refresh();
}

function take(type, job) {
  const known = jobs.value.get(job.job_id);
  if (known && isOlder(job, known)) return;
  const next = new Map(jobs.value);
  next.delete(job.job_id);
  next.set(job.job_id, job);
  const ended = [...next.values()].filter((each) => each.type !== "progress");
  for (const each of ended.slice(0, -ENDED_KEPT)) next.delete(each.job_id);
  jobs.value = next;
  tell(type, job);
  if (type !== "progress") tell("ended", job);
  else if (known?.state !== job.state) tell("begun", job);
}

/** Whether a message was long under way: a job is never turned back by one. */
function isOlder(job, known) {
  const order = (message) => [message.details.attempt, message.details.delivery, message.type === "progress" ? 0 : 1];
  const [a, b] = [order(job), order(known)];
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i] < b[i];
  return job.timestamp < known.timestamp;
}

function tell(type, data) {
  for (const callback of listeners.get(type) ?? []) callback(data);
}

/** Lists follow what happens, at most once a second: a scan tells of thousands. */
const SOON_MS = 1_000;
const waiting = new Set();
let soon = null;
const MUSIC = ["/tracks", "/albums", "/artists", "/facets"];
const FOLLOWERS = {
  track_added: MUSIC,
  track_updated: [...MUSIC, "/errors"],
  track_deleted: [...MUSIC, "/trash", "/errors"],
  ended: ["/jobs", "/queues", "/failures", "/scans", "/trash"],
};

function refreshSoon(prefixes) {
  for (const prefix of prefixes) waiting.add(prefix);
  soon ??= setTimeout(() => {
    soon = null;
    const named = [...waiting];
    waiting.clear();
    refresh(...named);
  }, SOON_MS);
}

/** Albums, artists and facets are answered as they were a moment ago: the last change is looked for once more. To look
 * for duplicates among all tracks each second would be too much. */
const LATER_MS = 5_000;
let later = null;

function refreshLater() {
  clearTimeout(later);
  later = setTimeout(() => refresh("/albums", "/artists", "/facets", "/duplicates"), LATER_MS);
}

for (const type of ["track_added", "track_updated", "track_deleted"]) on(type, refreshLater);
for (const type of LIBRARY_EVENTS) on(type, () => refreshSoon(FOLLOWERS[type] ?? ["/libraries"]));
on("ended", () => refreshSoon(FOLLOWERS.ended));
on("begun", () => refreshSoon(["/jobs", "/queues"]));
