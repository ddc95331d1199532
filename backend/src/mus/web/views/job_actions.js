// What one can do to jobs and queues.
import { del, post, queryString } from "../api.js";
import { t } from "../text.js";
import { say, sayFault } from "../parts/toast.js";
import { confirm } from "../parts/dialog.js";
import { navigate, at } from "../router.js";
import { refresh } from "../resource.js";

const done = () => refresh("/jobs", "/queues", "/failures", "/errors");

async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    sayFault(error);
    return null;
  } finally {
    done();
  }
}

export const cancelJob = (id) => attempt(() => del(`/jobs/${id}`));

/** Run it again, as a new job; `show` leads there. */
export async function retryJob(id, { show = false } = {}) {
  const accepted = await attempt(() => post(`/jobs/${id}/retry`));
  if (!accepted) return;
  if (show) navigate(at("jobs", accepted.job_id));
  else say(t("jobs.retried"), { job: accepted.job_id });
}

export const moveJob = (id, queue) => attempt(() => post(`/jobs/${id}/move`, { queue }));
export const pauseQueue = (name, paused) => attempt(() => post(`/queues/${name}/${paused ? "pause" : "resume"}`));

/** Take a queue's failures off the lists; their history stays. */
export async function clearFailed(name, count) {
  const agreed = await confirm({ title: t("jobs.clearTitle", { count }), text: t("jobs.clearText"), yes: t("jobs.clear") });
  if (agreed) await attempt(() => del(`/queues/${name}/failed`));
}

export async function retryFile(id) {
  const accepted = await attempt(() => post(`/errors/${id}/retry`));
  if (accepted) say(t("jobs.retried"), { job: accepted.job_id });
}

/** Try files in ERROR again: all, or those of a reason (`{category, reason}`). */
export async function retryFiles(which) {
  const accepted = await attempt(() => post(`/errors/retry${queryString(which)}`));
  if (accepted) say(t("failures.retried", { count: accepted.count }), { job: accepted.job_ids[0] });
}
