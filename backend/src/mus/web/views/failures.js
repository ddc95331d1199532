// What went wrong: files that could not be read, and jobs that failed, by reason.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { ago } from "../format.js";
import { Link, at, route, setQuery } from "../router.js";
import { useResource } from "../resource.js";
import { usePaged, More } from "../parts/paged.js";
import { Empty, Fault, Skeleton } from "../parts/empty.js";
import { Icon, IconButton } from "../parts/icon.js";
import { QUEUES } from "./jobs.js";
import { taskName } from "./job_words.js";
import { clearFailed, retryFile, retryFiles, retryJob } from "./job_actions.js";

export function Failures() {
  const { queue } = route.value.query;
  const groups = useResource("/failures", { queue });
  const reasons = useResource("/errors/reasons");
  const fault = groups.error ?? reasons.error;
  const nothing = groups.data?.items.length === 0 && reasons.data?.items.length === 0;
  return html`
    <div class="view-head"><h1>${t("nav.failures")}</h1></div>
    ${fault ? html`<${Fault} error=${fault} />` : !groups.data || !reasons.data ? html`<${Skeleton} />` : null}
    ${!fault && nothing && html`<${Empty} icon="check" title=${t("failures.none")} text=${t("failures.noneText")} />`}
    ${!fault && reasons.data?.items.length > 0 && html`<${Files} reasons=${reasons.data.items} />`}
    ${!fault && groups.data && (groups.data.items.length > 0 || queue) && html`<${Groups} groups=${groups.data.items} queue=${queue} />`}
  `;
}

/** So few reasons are shown open. */
const FEW = 3;

function Files({ reasons }) {
  return html`
    <section>
      <div class="view-head"><h2>${t("failures.files")}</h2>
        <button class="button plain" onClick=${() => retryFiles()}><${Icon} name="scan" size=${16} />${t("failures.retryAll")}</button></div>
      ${reasons.map((reason) => html`<${Reason} key=${reason.category + reason.reason} reason=${reason} open=${reasons.length <= FEW} />`)}
    </section>
  `;
}

function Reason({ reason: { category, reason, count, latest, message }, open: atFirst }) {
  const [open, setOpen] = useState(atFirst);
  return html`
    <details class="card reason" open=${open} onToggle=${(event) => setOpen(event.target.open)}>
      <summary><b>${count === 1 ? message : reason}</b> <span class="chip">${t("failures.count", { count })}</span>
        <span class="muted">${t(`failures.category.${category}`)} · ${ago(latest)}</span></summary>
      ${open && html`<${ReasonFiles} category=${category} reason=${reason} count=${count} />`}
    </details>
  `;
}

function ReasonFiles({ category, reason, count }) {
  const list = usePaged("/errors", { category, reason }, { identity: "track_id" });
  if (list.error) return html`<${Fault} error=${list.error} />`;
  if (!list.items) return html`<${Skeleton} rows=${2} />`;
  return html`
    ${count > 1 && html`<button class="text-button" onClick=${() => retryFiles({ category, reason })}>${t("failures.retryThese", { count })}</button>`}
    <ul class="files">${list.items.map((file) => html`
      <li key=${file.track_id}><${Link} href=${at("tracks", file.track_id)}>${file.path}<//>
        <span class="muted">${file.message === reason ? "" : `${file.message} · `}${file.library} · ${ago(file.since)}</span>
        <${IconButton} icon="scan" label=${t("failures.retryFile", { path: file.path })} onClick=${() => retryFile(file.track_id)} /></li>`)}
    </ul><${More} list=${list} />
  `;
}

function Groups({ groups, queue }) {
  const count = groups.reduce((sum, group) => sum + group.count, 0);
  return html`
    <section>
      <div class="view-head"><h2>${t("failures.jobs")}</h2>
        <select aria-label=${t("jobs.queue")} value=${queue ?? ""} onChange=${(event) => setQuery({ queue: event.target.value })}>
          <option value="">${t("jobs.everyQueue")}</option>
          ${QUEUES.map((name) => html`<option key=${name} value=${name}>${t(`queues.${name}`)}</option>`)}
        </select>
        ${queue && count > 0 && html`<button class="button plain" onClick=${() => clearFailed(queue, count)}>${t("jobs.clear")}</button>`}
      </div>
      ${groups.length === 0 && html`<p class="muted">${t("failures.none")}</p>`}
      ${groups.map((group) => html`<${Group} key=${group.queue + group.task + group.reason} group=${group} />`)}
    </section>
  `;
}

function Group({ group }) {
  const [open, setOpen] = useState(false);
  return html`
    <details class="card reason" onToggle=${(event) => setOpen(event.target.open)}>
      <summary><b>${group.reason ?? t("failures.noReason")}</b> <span class="chip bad">${t("failures.count", { count: group.count })}</span>
        <span class="muted">${taskName(group.task)} · ${t(`queues.${group.queue}`)} · ${group.category ? t(`failures.category.${group.category}`) : ""} · ${ago(group.last_at)}</span></summary>
      ${open && html`<${GroupJobs} group=${group} />`}
    </details>
  `;
}

function GroupJobs({ group }) {
  const list = usePaged("/jobs", { state: "failed", queue: group.queue, task: group.task, reason: group.reason });
  if (list.error) return html`<${Fault} error=${list.error} />`;
  if (!list.items) return html`<${Skeleton} rows=${2} />`;
  return html`
    <ul class="files">${list.items.map((job) => html`
      <li key=${job.id}><${Link} href=${at("jobs", job.id)}>${job.error?.message ?? job.id}<//>
        <span class="muted">${ago(job.finished_at)}</span>
        <${IconButton} icon="scan" label=${t("jobs.retryOf", { name: taskName(job.task) })} onClick=${() => retryJob(job.id)} /></li>`)}
    </ul><${More} list=${list} />
  `;
}
