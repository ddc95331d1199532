// Jobs that somebody waits for, followed to their end: by the stream of events, and by asking where it does not tell.
import { useEffect } from "preact/hooks";
import { effect, signal } from "@preact/signals";
import { get } from "./api.js";
import { jobs } from "./live.js";

const LOOK_MS = 2_000;
/** Of many unknown ones, so many are asked for at once. */
const LOOKS = 10;
const ENDED = new Set(["succeeded", "failed", "cancelled"]);
/** By id, those that the stream forgot or never told of, in the form of its messages. */
const asked = signal(new Map());
/** How often each id is waited for. @type {Map<string, number>} */
const wanted = new Map();
let timer = null;

/** How the job stands, as `GET /events` tells it; undefined while nothing is known. */
export const jobNow = (id) => jobs.value.get(id) ?? asked.value.get(id);

export const hasEnded = (job) => ENDED.has(job?.state);

/** `jobNow` for a view; null for no job. */
export function useJob(id) {
  useEffect(() => (id ? want(id) : undefined), [id]);
  return id ? jobNow(id) : undefined;
}

/** Resolves with the job's last message: `{state, result, user_message, …}`. */
export function ended(id) {
  return new Promise((resolve) => {
    const unwant = want(id);
    let stop = null;
    const look = () => {
      const job = jobNow(id);
      if (!hasEnded(job)) return;
      // An effect may not end itself while it runs for the first time.
      queueMicrotask(() => stop?.());
      unwant();
      resolve(job);
    };
    stop = effect(look);
  });
}

function want(id) {
  wanted.set(id, (wanted.get(id) ?? 0) + 1);
  timer ??= setInterval(ask, LOOK_MS);
  let isWanted = true;
  return () => {
    if (!isWanted) return;
    isWanted = false;
    if (wanted.get(id) > 1) return wanted.set(id, wanted.get(id) - 1);
    wanted.delete(id);
    if (wanted.size) return;
    clearInterval(timer);
    timer = null;
  };
}

async function ask() {
  const unknown = [...wanted.keys()].filter((id) => !jobs.value.has(id) && !hasEnded(asked.value.get(id)));
  for (const id of unknown.slice(0, LOOKS)) {
    const job = await get(`/jobs/${id}`).catch(() => null);
    if (job) asked.value = new Map(asked.value).set(id, asMessage(job));
  }
}

const asMessage = ({ id, error, units_done, units_total, ...job }) => ({
  ...job,
  job_id: id,
  user_message: error?.message ?? null,
  recovery_actions: [],
  details: { units_done, units_total },
});
