// What a person can have done from any list. A notice follows the job live, and says what it came to.
import { computed, signal } from "@preact/signals";
import { del, post } from "../api.js";
import { t } from "../text.js";
import { ended, jobNow } from "../following.js";
import { change, dismiss, say, sayFault } from "../parts/toast.js";
import { confirm } from "../parts/dialog.js";
import { refresh } from "../resource.js";
import { editOutcome, scanOutcome } from "./outcomes.js";
import { someAtOnce } from "./some_at_once.js";

/** What changes with tracks. */
const OF_TRACKS = ["/tracks", "/albums", "/artists", "/facets", "/trash", "/duplicates", "/libraries"];

/**
 * Ask for jobs (`asks` return the API's answer, `{job_id, job_ids?}`) and follow them in a notice that begins with
 * `text`. `outcome(jobs, items)` makes its end of the jobs that ended well: a text, or `{text, action, bad}`; `items`
 * are the indexes of their asks. Resolves with the jobs that ended, in whatever way; with none when nothing was accepted.
 */
export async function follow(text, asks, outcome) {
  const ids = signal([]);
  const part = computed(() => ids.value.reduce((sum, id) => sum + (jobNow(id)?.progress ?? 0), 0) / Math.max(asks.length, ids.value.length));
  const notice = say(text, { part });
  const ends = [];
  const answers = await someAtOnce(asks, async (ask) => {
    const answer = await ask();
    const found = answer.job_ids ?? [answer.job_id];
    ids.value = [...ids.value, ...found];
    ends.push(...found.map(ended));
    return found;
  });
  const refused = answers.filter(({ error }) => error).map(({ error }) => error);
  if (!ids.value.length) {
    dismiss(notice);
    sayFault(refused[0]);
    return [];
  }
  if (ids.value.length === 1) change(notice, { job: ids.value[0] });
  const jobs = await Promise.all(ends);
  const well = jobs.filter((job) => job.state === "succeeded");
  const faults = [...refused.map((error) => error.message), ...jobs.filter((job) => job.state === "failed").map((job) => job.user_message)];
  const items = answers.flatMap(({ value }, index) => (value?.some((id) => well.some((job) => job.job_id === id)) ? [index] : []));
  const said = well.length ? outcome(well, items) : { text: t(faults.length ? "care.failed" : "care.cancelled") };
  const { text: last, action, bad = false } = typeof said === "string" ? { text: said } : said;
  const withFaults = () => (well.length ? `${last}. ${t("care.someFailed", { count: faults.length })} ${faults[0]}` : faults[0]);
  change(notice, { text: faults.length ? withFaults() : last, action, bad: bad || faults.length > 0, part: null });
  return jobs;
}

/** Scan everything, or what `scope` (`{library, path, album, artist, mode, confirm_missing}`) names. */
export async function scan(scope = {}) {
  const jobs = await follow(t("care.scanning"), [() => post("/scans", scope)], (done) => scanOutcome(done.map((job) => job.result)));
  refresh("/scans", ...OF_TRACKS);
  return jobs;
}

/** Move the files of these tracks to the trash, after a question; whence they can be restored. */
export async function trashTracks(tracks) {
  const agreed = await confirm({
    title: t("care.trashTitle", { count: tracks.length }),
    text: t("care.trashText", { count: tracks.length, title: tracks[0].title }),
    yes: t("care.trashYes"),
    dangerous: true,
  });
  if (!agreed) return false;
  const asks = tracks.map((track) => () => del(`/tracks/${track.id}`));
  await follow(t("care.trashing", { count: tracks.length }), asks, (_, items) => ({
    text: t("care.trashed", { count: items.length }),
    action: { label: t("common.undo"), run: () => restoreTracks(items.map((index) => tracks[index])) },
  }));
  refresh(...OF_TRACKS);
  return true;
}

/** Bring their files back from the trash. */
export async function restoreTracks(tracks) {
  const asks = tracks.map((track) => () => post(`/tracks/${track.id}/restore`));
  await follow(t("care.restoring", { count: tracks.length }), asks, (_, items) => t("care.restored", { count: items.length }));
  refresh(...OF_TRACKS);
}

/** Delete what lies in the trash for good, after a question; all of it without `tracks`. */
export async function purge(tracks) {
  const agreed = await confirm({
    title: tracks ? t("trash.purgeTitle", { count: tracks.length }) : t("trash.emptyTitle"),
    text: t("trash.purgeText"),
    yes: t("trash.purgeYes"),
    dangerous: true,
  });
  if (!agreed) return false;
  const asks = tracks ? tracks.map((track) => () => del(`/trash/${track.id}`)) : [() => del("/trash")];
  await follow(t("trash.purging"), asks, (_, items) => (tracks ? t("trash.purged", { count: items.length }) : t("trash.emptied")));
  refresh(...OF_TRACKS);
  return true;
}

/** Have edits of tracks done (`ask` does), with a way back. Resolves with the job, once it has ended. */
export async function edit(ask) {
  const [job] = await follow(t("edit.writing"), [ask], ([done]) => ({
    text: editOutcome(done.result),
    bad: done.result.failed > 0,
    action: done.result.edited || done.result.renamed ? { label: t("common.undo"), run: () => undo(done.job_id) } : undefined,
  }));
  refresh(...OF_TRACKS);
  return job;
}

/** Take back all that a job has edited. */
export async function undo(jobId) {
  const [job] = await follow(t("edit.undoing"), [() => post(`/jobs/${jobId}/undo`)], ([done]) => t("edit.undone", { count: done.result.undone ?? 0 }));
  refresh(...OF_TRACKS);
  return job;
}
