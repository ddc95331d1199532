// The uploads of this page: they go on while one looks at other views.
import { computed, signal } from "@preact/signals";
import { del, get, post, upload } from "../api.js";
import { t } from "../text.js";
import { ended } from "../following.js";
import { refresh } from "../resource.js";
import { batchesOf, besideMusic, numbered } from "./upload_batches.js";
import { isCompanion, isMusic } from "./dropped.js";

/** Files sent at the same time. */
const AT_ONCE = 3;
/** Tracks of a folder that are linked once they are in. */
const LINKED = 500;

/**
 * What was handed in, in order: `{key, path, file, isMusic, state, sent, batch}`. `sent` is a signal of the bytes that went,
 * `state` one of `{is, message, place, track}`, which changes far less often. `is` is one of
 *   chosen    handed in
 *   waiting   its turn comes
 *   sending   under way, or being checked
 *   staged    checked, and waits for the others of its folder
 *   placing   on its way to its place with them; or there, and read
 *   done      in the library
 *   taken     there is a file at its place: a person chooses
 *   failed    `message` says why: a person tries again, or leaves it out
 *   skipped   left out
 * A folder is a batch, `{id, name, items}`: its files take their places together, or none does. With its music comes
 * what lies beside it, as its cover.
 */
export const uploads = signal([]);
/** Files that were handed in and are neither. */
export const leftOut = signal([]);
/** Where they go: `{library, folder, pattern}`; with a pattern files are named by their tags. */
export const target = signal({ library: null, folder: "", pattern: null });

const UNDER_WAY = new Set(["waiting", "sending", "placing"]);
/** What would be lost with the page. */
const UNFINISHED = new Set(["waiting", "sending", "staged"]);
const THERE = new Set(["staged", "placing", "done"]);
let keys = 0;
let sending = 0;

const is = (item) => item.state.value.is;
const set = (item, changes) => {
  item.state.value = { ...item.state.value, ...changes };
};

/** `{count, size, sent, active}` of all of them, and how many are in each state. */
export const totals = computed(() => {
  const sum = { count: 0, size: 0, sent: 0, active: 0, chosen: 0, staged: 0, done: 0, taken: 0, failed: 0 };
  for (const item of uploads.value) {
    if (is(item) === "skipped") continue;
    sum.count += 1;
    sum.size += item.file.size;
    sum.sent += THERE.has(is(item)) ? item.file.size : item.sent.value;
    if (is(item) in sum) sum[is(item)] += 1;
    if (UNDER_WAY.has(is(item))) sum.active += 1;
  }
  return sum;
});

/** Take what was dropped or picked; nothing is sent before `start`. */
export function add(files) {
  const known = new Set(uploads.value.filter((item) => is(item) === "chosen").map(({ path }) => path));
  const top = (path) => path.split("/")[0];
  const folders = new Set(files.filter(({ path }) => isMusic(path)).map(({ path }) => top(path)));
  const isTaken = ({ path }) => isMusic(path) || (isCompanion(path) && folders.has(top(path)));
  const items = files
    .filter((each) => isTaken(each) && !known.has(each.path))
    .map(({ path, file }) => ({ key: ++keys, path, file, isMusic: isMusic(path), state: signal({ is: "chosen" }), sent: signal(0), batch: null }))
    .sort((a, b) => a.path.localeCompare(b.path, undefined, { numeric: true }));
  batchesOf(items);
  leftOut.value = [...leftOut.value, ...files.filter((each) => !isTaken(each)).map(({ path }) => path)];
  uploads.value = [...uploads.value, ...items];
}

/** Send those that were chosen to where `target` says. */
export function start() {
  for (const item of uploads.value) {
    if (is(item) !== "chosen") continue;
    item.target = target.value;
    hand(item);
  }
}

/** Try one again that failed. */
export function again(item) {
  if (!item.isStaged) return hand(item);
  // It is there, and failed with its folder.
  for (const each of item.batch.items) if (each.isStaged && is(each) === "failed") set(each, { is: "staged", message: null });
  place(item.batch);
}

/** Take one in under another name, as there is a file at its place. */
export async function keepBoth(item) {
  item.number = (item.number ?? 1) + 1;
  await unstage(item);
  hand(item);
}

/** Leave one out. */
export async function skip(item) {
  set(item, { is: "skipped" });
  await unstage(item);
  if (item.batch) place(item.batch);
}

/** Break off what is under way, and send no more. */
export function stop() {
  for (const item of uploads.value) {
    if (is(item) === "sending") item.control.abort();
    else if (is(item) === "waiting") set(item, { is: "chosen" });
  }
}

/** Forget what is not under way; of what waits at the server nothing is left there. */
export function clear() {
  const batches = new Set(uploads.value.filter((item) => item.isStaged && is(item) !== "placing").map((item) => item.batch));
  for (const batch of batches) del(`/uploads/${batch.id}`, { query: { library: batch.items[0].target.library } }).catch(() => {});
  uploads.value = uploads.value.filter((item) => UNDER_WAY.has(is(item)));
  leftOut.value = [];
}

function hand(item) {
  set(item, { is: "waiting", message: null });
  next();
}

function next() {
  while (sending < AT_ONCE) {
    const item = uploads.value.find((each) => is(each) === "waiting" && !waitsForMusic(each));
    if (!item) return;
    sending += 1;
    send(item).finally(() => {
      sending -= 1;
      next();
      if (item.batch) place(item.batch);
    });
  }
}

/** Where music goes that is named by its tags is known once it is there. */
const waitsForMusic = ({ isMusic: leads, target: { pattern }, batch }) =>
  !leads && pattern !== null && batch.items.some((each) => each.isMusic && ["waiting", "sending"].includes(is(each)));

async function send(item) {
  const { library, folder, pattern } = item.target;
  const follows = !item.isMusic && pattern !== null ? besideMusic(item) : null;
  const asked = follows ?? [...folder.split("/"), ...item.path.split("/")].map((part) => part.trim()).filter(Boolean).join("/");
  // In a batch a free name is made here: what its other files will be called the server does not know.
  const path = item.batch && item.number ? numbered(item.place, item.number) : asked;
  const named = (item.batch && item.number) || !item.isMusic ? null : pattern;
  const query = { path, library, rename_pattern: named, on_conflict: item.batch ? null : item.number ? "number" : "refuse" };
  item.control = new AbortController();
  set(item, { is: "sending" });
  try {
    const address = item.batch ? `/uploads/${item.batch.id}` : "/tracks/upload";
    const answer = await upload(address, query, item.file, { control: item.control, onProgress: (sent) => (item.sent.value = sent) });
    item.place = item.number ? item.place : answer.path;
    if (!item.batch) return void read(item, answer);
    item.isStaged = true;
    item.stagedAs = answer.path;
    set(item, { is: answer.problem ? "taken" : "staged", message: answer.problem, place: answer.path });
  } catch (error) {
    item.sent.value = 0;
    if (error.name === "AbortError") set(item, { is: "chosen" });
    else set(item, { is: isTaken(error) ? "taken" : "failed", message: error.message });
  }
}

/** Of the reasons for a 409, the one that another name helps with. */
const isTaken = (error) => error.status === 409 && error.actions.some((action) => action.includes("on_conflict"));

async function unstage(item) {
  if (!item.isStaged) return;
  item.isStaged = false;
  await del(`/uploads/${item.batch.id}`, { query: { library: item.target.library, path: item.stagedAs } }).catch(() => {});
}

/** A single file is in its place: what is left is that the library lists it. */
async function read(item, { path, job_id }) {
  set(item, { is: "placing", place: path });
  const job = await ended(job_id);
  if (job.state === "succeeded") set(item, { is: "done", track: job.result.track_id });
  else set(item, { is: "failed", message: job.user_message ?? t("upload.notRead") });
  over();
}

/** Once all files of a folder are there and nothing stands against any: to their places, all together. */
async function place(batch) {
  const music = batch.items.filter((item) => item.isMusic);
  if (music.length && music.every((item) => is(item) === "skipped")) await skipRest(batch);
  const items = batch.items.filter((item) => is(item) !== "skipped");
  if (!items.length || items.some((item) => is(item) !== "staged")) return;
  const { library } = items[0].target;
  for (const item of items) set(item, { is: "placing" });
  try {
    const { job_id } = await post(`/uploads/${batch.id}/place`, undefined, { query: { library } });
    const job = await ended(job_id);
    if (job.state !== "succeeded") throw new Error(job.user_message ?? t("care.cancelled"));
    const tracks = await placed(library);
    for (const item of items) {
      item.isStaged = false;
      set(item, { is: "done", track: tracks.get(item.stagedAs) });
    }
  } catch (error) {
    const reasons = new Map((error.details?.files ?? []).map(({ path, message }) => [path, message]));
    for (const item of items) {
      const reason = reasons.get(item.stagedAs);
      if (reason) set(item, { is: "taken", message: reason });
      else set(item, reasons.size ? { is: "staged" } : { is: "failed", message: error.message });
    }
  }
  over();
}

/** Nobody wants what lay beside music without it. */
async function skipRest(batch) {
  for (const item of batch.items.filter((each) => ["waiting", "staged", "failed", "taken"].includes(is(each)))) {
    set(item, { is: "skipped" });
    await unstage(item);
  }
}

/** The latest tracks' ids by their paths: a batch's job does not tell them. */
async function placed(library) {
  const { items } = await get("/tracks", { library, sort: "-added_at", limit: LINKED }).catch(() => ({ items: [] }));
  return new Map(items.map((track) => [track.path, track.id]));
}

function over() {
  if (!totals.value.active) refresh("/tracks", "/albums", "/artists", "/facets", "/libraries", "/duplicates");
}

addEventListener("beforeunload", (event) => {
  if (uploads.value.some((item) => UNFINISHED.has(is(item)))) event.preventDefault();
});
