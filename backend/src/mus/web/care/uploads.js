// The uploads of this page: they go on while one looks at other views.
import { computed, signal } from "@preact/signals";
import { upload } from "../api.js";
import { t } from "../text.js";
import { ended } from "../following.js";
import { refresh } from "../resource.js";
import { isMusic } from "./dropped.js";

/** Files sent at the same time. */
const AT_ONCE = 3;

/**
 * What was handed in, in order: `{key, path, file, state, sent}`. `state` is a signal of `{is, message, track, place}`,
 * `sent` one of the bytes that went, which changes far more often. `is` is chosen, waiting, sending, reading, done, taken (a file is at that place), failed or skipped.
 */
export const uploads = signal([]);
/** Files that were handed in and are no music. */
export const leftOut = signal([]);
/** Where they go: `{library, folder, pattern}`; with a pattern files are named by their tags. */
export const target = signal({ library: null, folder: "", pattern: null });

const IN_HAND = new Set(["waiting", "sending"]);
let keys = 0;
let sending = 0;

/** `{count, size, sent, done, taken, failed, chosen, active}` of all of them. */
export const totals = computed(() => {
  const sum = { count: 0, size: 0, sent: 0, done: 0, taken: 0, failed: 0, chosen: 0, active: 0 };
  for (const { file, state, sent } of uploads.value) {
    const { is } = state.value;
    if (is === "skipped") continue;
    sum.count += 1;
    sum.size += file.size;
    sum.sent += is === "done" || is === "reading" ? file.size : sent.value;
    if (is in sum) sum[is] += 1;
    if (IN_HAND.has(is) || is === "reading") sum.active += 1;
  }
  return sum;
});

/** Take what was dropped or picked; nothing is sent before `start`. */
export function add(files) {
  const known = new Set(uploads.value.filter(({ state }) => state.value.is === "chosen").map(({ path }) => path));
  const music = files.filter(({ path }) => isMusic(path) && !known.has(path));
  leftOut.value = [...leftOut.value, ...files.filter(({ path }) => !isMusic(path)).map(({ path }) => path)];
  const items = music.map(({ path, file }) => ({ key: ++keys, path, file, state: signal({ is: "chosen" }), sent: signal(0) }));
  items.sort((a, b) => a.path.localeCompare(b.path, undefined, { numeric: true }));
  uploads.value = [...uploads.value, ...items];
}

/** Send those that were chosen to where `target` says. */
export function start() {
  for (const item of uploads.value) if (item.state.value.is === "chosen") hand(item, "refuse");
}

/** Try one again; with `number` under another name, where there is a file already. */
export const again = (item, onConflict = "refuse") => hand(item, onConflict);

export const skip = (item) => set(item, { is: "skipped" });

/** Break off what is under way, and send no more. */
export function stop() {
  for (const item of uploads.value) {
    const { is } = item.state.value;
    if (is === "sending") item.control.abort();
    else if (is === "waiting") set(item, { is: "chosen" });
  }
}

/** Forget what is over. */
export function clear() {
  uploads.value = uploads.value.filter(({ state }) => IN_HAND.has(state.value.is) || state.value.is === "reading");
  leftOut.value = [];
}

function hand(item, onConflict) {
  Object.assign(item, { onConflict, target: target.value });
  set(item, { is: "waiting", message: null });
  next();
}

const set = (item, changes) => {
  item.state.value = { ...item.state.value, ...changes };
};

function next() {
  while (sending < AT_ONCE) {
    const item = uploads.value.find(({ state }) => state.value.is === "waiting");
    if (!item) return;
    sending += 1;
    send(item).finally(() => {
      sending -= 1;
      next();
    });
  }
}

async function send(item) {
  const { library, folder, pattern } = item.target;
  const path = [...folder.split("/"), ...item.path.split("/")].map((part) => part.trim()).filter(Boolean).join("/");
  const query = { path, library, rename_pattern: pattern, on_conflict: item.onConflict };
  item.control = new AbortController();
  set(item, { is: "sending" });
  try {
    const answer = await upload("/tracks/upload", query, item.file, { control: item.control, onProgress: (sent) => (item.sent.value = sent) });
    set(item, { is: "reading", place: answer.path, library: answer.library });
    read(item, answer.job_id);
  } catch (error) {
    item.sent.value = 0;
    if (error.name === "AbortError") set(item, { is: "chosen" });
    else set(item, { is: error.status === 409 && item.onConflict === "refuse" && isTaken(error) ? "taken" : "failed", message: error.message });
  }
}

/** Of the reasons for a 409, the one that a choice helps with. */
const isTaken = (error) => error.actions.some((action) => action.includes("on_conflict"));

/** The file is in its place: what is left is that the library lists it. */
async function read(item, jobId) {
  const job = await ended(jobId);
  if (job.state === "succeeded") set(item, { is: "done", track: job.result.track_id });
  else set(item, { is: "failed", message: job.user_message ?? t("upload.notRead") });
  if (!totals.value.active) refresh("/tracks", "/albums", "/artists", "/facets", "/libraries");
}

addEventListener("beforeunload", (event) => {
  // Whatever is on its way would be lost.
  if (uploads.value.some(({ state }) => IN_HAND.has(state.value.is))) event.preventDefault();
});
