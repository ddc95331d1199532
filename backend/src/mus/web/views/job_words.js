// How jobs are spoken of: their names, states and results in words, and how fast they get on.
import { html } from "../html.js";
import { t } from "../text.js";
import { span } from "../format.js";
import { jobs, on } from "../live.js";

/** A task's name in words; one that this page does not know is shown as it is called. */
export function taskName(task) {
  const name = t(`tasks.${task}`);
  return name.startsWith("tasks.") ? task : name;
}

export const OPEN_STATES = ["queued", "running", "retrying", "waiting"];
const LOOKS = { succeeded: "good", failed: "bad", retrying: "warn", running: "busy", waiting: "busy" };

export function StateChip({ state }) {
  return html`<span class=${`chip ${LOOKS[state] ?? ""}`}>${t(`jobs.state.${state}`)}</span>`;
}

/** A job as the API listed it, brought up to what was heard of it since. */
export function upToDate(job) {
  const heard = jobs.value.get(job.id);
  if (!heard || !OPEN_STATES.includes(job.state)) return job;
  const { units_done, units_total, children_open, next_attempt_at } = heard.details;
  const error = heard.user_message ? { category: heard.error_category, message: heard.user_message } : job.error;
  return { ...job, state: heard.state, progress: heard.progress, stage: heard.stage, units_done, units_total, children_open, next_attempt_at, error };
}

/** What a scan or another job came to: the counts of its result that are not zero. */
export function resultLine(result) {
  return Object.entries(result ?? {})
    .filter(([, value]) => typeof value === "number" && value > 0)
    .map(([name, value]) => {
      const known = t(`jobs.count.${name}`, { count: value });
      return known.startsWith("jobs.") ? `${name.replaceAll("_", " ")} ${value}` : known;
    })
    .join(" · ");
}

/** By job: how far it was when, over the last half minute. */
const paces = new Map();
const WINDOW_MS = 30_000;

on("progress", (job) => {
  const far = { at: Date.now(), units: job.details.units_done, part: job.progress, total: job.details.units_total };
  // One that goes on for another begins at zero, before it says how much is done: that is no pace.
  const samples = (paces.get(job.job_id) ?? []).filter((sample) => far.at - sample.at < WINDOW_MS && (sample.total > 0 || !far.total));
  paces.set(job.job_id, [...samples, far]);
});
on("ended", (job) => paces.delete(job.job_id));

/** Tasks whose jobs share one piece of work, each for its part, and take turns: while one runs, others stand still. */
const IN_TURNS = new Set(["process_slow_metadata", "listen_to_tracks"]);

/** How many times as long it takes as if the job ran all the time. */
function turnsOf(task) {
  if (!IN_TURNS.has(task)) return 1;
  const states = [...jobs.value.values()].filter((job) => job.task === task && OPEN_STATES.includes(job.state)).map((job) => job.state);
  return states.length / Math.max(1, states.filter((state) => state === "running").length);
}

/** `{rate, left}` of a running job: units a second and seconds to its end; null where that is not known yet. */
function paceOf(id, task) {
  const samples = paces.get(id) ?? [];
  const [first, last] = [samples[0], samples.at(-1)];
  const seconds = samples.length > 1 ? (last.at - first.at) / 1000 : 0;
  if (seconds < 1 || last.part <= first.part) return { rate: null, left: null };
  const rate = last.units > first.units ? (last.units - first.units) / seconds : null;
  return { rate, left: (turnsOf(task) * (1 - last.part) * seconds) / (last.part - first.part) };
}

/** "120 of 2,400 · 310/s · 7 s left" */
export function paceLine(job) {
  const { rate, left } = paceOf(job.id ?? job.job_id, job.task);
  const { units_done, units_total } = job.details ?? job;
  return [
    units_total > 0 && t("jobs.units", { done: units_done, total: units_total }),
    rate !== null && t("jobs.rate", { rate: rate < 10 ? Math.round(rate * 10) / 10 : Math.round(rate) }),
    left !== null && t("jobs.left", { time: span(left) }),
  ].filter(Boolean).join(" · ");
}
