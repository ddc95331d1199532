// What mus does just now, what waits, and what it did.
import { html } from "../html.js";
import { t } from "../text.js";
import { ago, span } from "../format.js";
import { Link, at, route, setQuery } from "../router.js";
import { running } from "../live.js";
import { usePaged, More } from "../parts/paged.js";
import { Empty, Fault, Skeleton } from "../parts/empty.js";
import { Icon, IconButton } from "../parts/icon.js";
import { Progress } from "../parts/progress.js";
import { scan } from "../care/actions.js";
import { QueueCards } from "./queue_cards.js";
import { StateChip, paceLine, taskName, upToDate } from "./job_words.js";
import { cancelJob, retryJob } from "./job_actions.js";

/** What the tabs show, as states of the API. */
const TABS = { all: [], waiting: ["queued", "retrying"], running: ["running", "waiting"], failed: ["failed"], ended: ["succeeded", "cancelled"] };
export const QUEUES = ["high_priority", "medium_priority", "low_priority"];

export function Jobs() {
  return html`
    <div class="view-head"><h1>${t("nav.jobs")}</h1>
      <button class="button" onClick=${() => scan()}><${Icon} name="scan" size=${16} />${t("care.scanNow")}</button></div>
    <${Running} />
    <${QueueCards} />
    <${List} />
  `;
}

function Running() {
  const now = running.value;
  return html`
    <section aria-label=${t("jobs.now")}>
      <h2>${t("jobs.now")}</h2>
      ${now.length === 0 && html`<p class="muted">${t("live.idle")}</p>`}
      <ul class="running">${now.map((job) => html`<${RunningJob} key=${job.job_id} job=${job} />`)}</ul>
    </section>
  `;
}

function RunningJob({ job }) {
  const name = taskName(job.task);
  const stopping = job.details.cancel_requested_at !== null;
  return html`
    <li class="card">
      <div class="row">
        <${Link} href=${at("jobs", job.job_id)}><b>${name}</b><//>
        <span class="muted">${stopping ? t("jobs.stopping") : (job.stage ?? "")}</span>
        <${IconButton} icon="stop" label=${t("jobs.cancelOf", { name })} disabled=${stopping} onClick=${() => cancelJob(job.job_id)} />
      </div>
      <${Progress} value=${job.progress > 0 ? job.progress : null} label=${name} />
      <p class="muted">${paceLine(job)}${job.details.children_open > 0 && ` · ${t("jobs.parts", { count: job.details.children_open })}`}</p>
    </li>
  `;
}

function List() {
  const { tab: asked, queue, task } = route.value.query;
  const tab = Object.hasOwn(TABS, asked) ? asked : "all";
  const list = usePaged("/jobs", { state: TABS[tab].join(","), queue, task, parts: tab === "failed" });
  return html`
    <section aria-label=${t("jobs.history")}>
      <div class="view-head">
        <h2>${t("jobs.history")}</h2>
        <div class="tabs" role="group" aria-label=${t("jobs.show")}>
          ${Object.keys(TABS).map((name) => html`
            <button key=${name} aria-pressed=${tab === name} onClick=${() => setQuery({ tab: name === "all" ? "" : name })}>${t(`jobs.tab.${name}`)}</button>`)}
        </div>
        <label class="field inline"><span class="visually-hidden">${t("jobs.queue")}</span>
          <select value=${queue ?? ""} onChange=${(event) => setQuery({ queue: event.target.value })}>
            <option value="">${t("jobs.everyQueue")}</option>
            ${QUEUES.map((name) => html`<option key=${name} value=${name}>${t(`queues.${name}`)}</option>`)}
          </select>
        </label>
        ${task && html`<button class="chip" onClick=${() => setQuery({ task: "" })}>${taskName(task)} ✕</button>`}
      </div>
      <${JobTable} list=${list} empty=${t("jobs.none")} />
    </section>
  `;
}

/** Jobs of a list, each with what can be done to it. */
export function JobTable({ list, empty }) {
  if (list.error) return html`<${Fault} error=${list.error} />`;
  if (!list.items) return html`<${Skeleton} />`;
  if (!list.items.length) return html`<${Empty} icon="jobs" title=${empty} />`;
  return html`
    <div class="table-frame"><table class="jobs">
      <thead><tr><th>${t("jobs.job")}</th><th>${t("jobs.queue")}</th><th>${t("jobs.stateName")}</th><th>${t("jobs.came")}</th><th class="number">${t("jobs.waited")}</th><th class="number">${t("jobs.took")}</th><th><span class="visually-hidden">${t("jobs.actions")}</span></th></tr></thead>
      <tbody>${list.items.map((job) => html`<${JobRow} key=${job.id} job=${upToDate(job)} />`)}</tbody>
    </table></div>
    <${More} list=${list} />
  `;
}

const between = (from, to) => (from && to ? span(Math.max(0, (new Date(to) - new Date(from)) / 1000)) : "");

function JobRow({ job }) {
  const open = ["queued", "running", "retrying", "waiting"].includes(job.state);
  const name = taskName(job.task);
  const line = job.error ? job.error.message : job.requested_by;
  return html`
    <tr>
      <td><${Link} href=${at("jobs", job.id)}>${name}<//><div class=${`line ${job.error ? "bad" : "muted"}`}>${line}</div></td>
      <td class="muted">${t(`queues.${job.queue}`)}</td>
      <td><${StateChip} state=${job.state} />${job.state === "running" && html`<${Progress} value=${job.progress || null} label=${name} />`}</td>
      <td title=${job.created_at}>${ago(job.created_at)}</td>
      <td class="number">${between(job.run_after ?? job.created_at, job.started_at)}</td>
      <td class="number">${between(job.started_at, job.finished_at)}</td>
      <td class="number">
        ${open && html`<${IconButton} icon="stop" label=${t("jobs.cancelOf", { name })} disabled=${job.cancel_requested_at !== null} onClick=${() => cancelJob(job.id)} />`}
        ${["failed", "cancelled"].includes(job.state) && html`<${IconButton} icon="scan" label=${t("jobs.retryOf", { name })} onClick=${() => retryJob(job.id)} />`}
      </td>
    </tr>
  `;
}
