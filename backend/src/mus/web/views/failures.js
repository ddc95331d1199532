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
  const files = usePaged("/errors", {}, { identity: "track_id" });
  const fault = groups.error ?? files.error;
  const nothing = groups.data?.items.length === 0 && files.items?.length === 0;
  return html`
    <div class="view-head"><h1>${t("nav.failures")}</h1></div>
    ${fault ? html`<${Fault} error=${fault} />` : !groups.data || !files.items ? html`<${Skeleton} />` : null}
    ${!fault && nothing && html`<${Empty} icon="check" title=${t("failures.none")} text=${t("failures.noneText")} />`}
    ${!fault && files.items?.length > 0 && html`<${Files} list=${files} />`}
    ${!fault && groups.data && (groups.data.items.length > 0 || queue) && html`<${Groups} groups=${groups.data.items} queue=${queue} />`}
  `;
}

function Files({ list }) {
  const reasons = new Map();
  for (const file of list.items) reasons.set(file.message, [...(reasons.get(file.message) ?? []), file]);
  return html`
    <section>
      <div class="view-head"><h2>${t("failures.files")}</h2>
        <button class="button plain" onClick=${retryFiles}><${Icon} name="scan" size=${16} />${t("failures.retryAll")}</button></div>
      ${[...reasons].map(([reason, files]) => html`
        <details class="card reason" key=${reason} open=${reasons.size < 4}>
          <summary><b>${reason}</b> <span class="chip">${t("failures.count", { count: files.length })}</span>
            <span class="muted">${t(`failures.category.${files[0].category}`)}</span></summary>
          <ul class="files">${files.map((file) => html`
            <li key=${file.track_id}><${Link} href=${at("tracks", file.track_id)}>${file.path}<//>
              <span class="muted">${file.library} · ${ago(file.since)}</span>
              <${IconButton} icon="scan" label=${t("failures.retryFile", { path: file.path })} onClick=${() => retryFile(file.track_id)} /></li>`)}
          </ul>
        </details>`)}
      <${More} list=${list} />
    </section>
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
