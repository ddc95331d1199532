// An edit that was asked for: how far it is, what it came to, and the way back.
import { html } from "../html.js";
import { t } from "../text.js";
import { del } from "../api.js";
import { hasEnded } from "../following.js";
import { Link, at, setQuery } from "../router.js";
import { Icon, IconButton } from "../parts/icon.js";
import { Progress } from "../parts/progress.js";
import { sayFault } from "../parts/toast.js";
import { undo } from "./actions.js";
import { editOutcome } from "./outcomes.js";

/** `job` is its message, undefined while nothing is known; `after` is called when it was taken back. */
export function EditDone({ id, job, after }) {
  const dismiss = () => setQuery({ job: null }, { replace: true });
  if (!hasEnded(job)) {
    const { units_done: done = 0, units_total: total = 0 } = job?.details ?? {};
    return html`<div class="note" role="status">
      <div class="scan-running"><strong>${total ? t("edit.written", { done, total }) : t("edit.writing")}</strong>
        <${Progress} value=${job?.progress || null} label=${t("edit.writing")} />
        <button class="text-button" onClick=${() => del(`/jobs/${id}`).catch(sayFault)}>${t("common.cancel")}</button></div>
    </div>`;
  }
  const { state, result, user_message: message } = job;
  const wrote = result && (result.edited || result.renamed);
  const takeBack = async () => {
    const done = await undo(id);
    if (done?.state !== "succeeded") return;
    dismiss();
    await after();
  };
  return html`
    <div class=${`note ${state === "succeeded" && !result.failed ? "good" : "bad"}`} role="status">
      <strong>${state === "succeeded" ? editOutcome(result) : (message ?? t("care.cancelled"))}</strong>
      ${result?.failures?.length > 0 && html`<ul class="failures" tabindex="0" aria-label=${t("edit.failures")}>${result.failures.map((failure) => html`<li key=${failure.track_id}><span class="path">${failure.path}</span> ${failure.message}</li>`)}</ul>`}
      <div class="actions">
        ${(wrote || state === "cancelled") && html`<button class="button plain" onClick=${takeBack}><${Icon} name="restore" size=${18} />${t("common.undo")}</button>`}
        <${Link} class="text-button" href=${at("jobs", id)}>${t("common.seeJob")}<//>
        <${IconButton} icon="close" size=${16} label=${t("common.dismiss")} onClick=${dismiss} />
      </div>
    </div>
  `;
}
