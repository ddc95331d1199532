// One job: how it stands, what it was asked, what came of it, and everything that happened to it.
import { html } from "../html.js";
import { t } from "../text.js";
import { dateTime, span } from "../format.js";
import { Link, at } from "../router.js";
import { useResource } from "../resource.js";
import { usePaged, More } from "../parts/paged.js";
import { Fault, Skeleton } from "../parts/empty.js";
import { Icon } from "../parts/icon.js";
import { Menu } from "../parts/menu.js";
import { Progress } from "../parts/progress.js";
import { JobTable, QUEUES } from "./jobs.js";
import { OPEN_STATES, StateChip, paceLine, resultLine, taskName, upToDate } from "./job_words.js";
import { cancelJob, moveJob, retryJob } from "./job_actions.js";

export function Job({ id }) {
  const { data, error } = useResource(`/jobs/${encodeURIComponent(id)}`);
  if (error && !data) return html`<${Fault} error=${error} />`;
  if (!data) return html`<${Skeleton} />`;
  const job = upToDate(data);
  const open = OPEN_STATES.includes(job.state);
  const name = taskName(job.task);
  const others = QUEUES.filter((queue) => queue !== job.queue);
  return html`
    <div class="view-head">
      <${Link} class="icon-button" href="/jobs" aria-label=${t("jobs.back")}><${Icon} name="back" /><//>
      <h1>${name}</h1>
      <${StateChip} state=${job.state} />
      ${open && html`<button class="button plain" disabled=${job.cancel_requested_at !== null} onClick=${() => cancelJob(job.id)}><${Icon} name="stop" size=${16} />${t("common.cancel")}</button>`}
      ${["failed", "cancelled"].includes(job.state) && html`<button class="button" onClick=${() => retryJob(job.id, { show: true })}><${Icon} name="scan" size=${16} />${t("common.retry")}</button>`}
      ${job.state === "queued" && html`<${Menu} label=${t("jobs.move")} items=${others.map((queue) => ({ label: t("jobs.moveTo", { queue: t(`queues.${queue}`) }), run: () => moveJob(job.id, queue) }))} />`}
    </div>
    ${open && html`<${Progress} value=${job.state === "queued" ? 0 : job.progress || null} label=${name} /><p class="muted" role="status">${[job.stage, paceLine(job)].filter(Boolean).join(" · ")}</p>`}
    <${Problem} job=${job} />
    ${job.result && html`<p class="result">${resultLine(job.result)}</p>`}
    <${Facts} job=${job} />
    <${Parts} id=${job.id} />
    <${History} id=${job.id} state=${job.state} />
  `;
}

function Problem({ job }) {
  if (!job.error) return null;
  const actions = job.error_details?.recovery_actions ?? [];
  return html`
    <section class="card problem" role="alert">
      <h2>${t(`failures.category.${job.error.category}`)}</h2>
      <p>${job.error.message}</p>
      ${actions.length > 0 && html`<ul>${actions.map((action) => html`<li key=${action}>${action}</li>`)}</ul>`}
      ${job.next_attempt_at && html`<p class="muted">${t("jobs.nextAttempt", { time: dateTime(job.next_attempt_at) })}</p>`}
      ${job.error_details && html`<details><summary>${t("common.details")}</summary><pre>${JSON.stringify(job.error_details, null, 2)}</pre></details>`}
    </section>
  `;
}

function Facts({ job }) {
  const link = (id) => id && html`<${Link} href=${at("jobs", id)}>${id.slice(0, 12)}…<//>`;
  const facts = [
    ["queue", t(`queues.${job.queue}`)],
    ["requestedBy", job.requested_by],
    ["attempt", t("jobs.attemptOf", { attempt: job.attempt, most: job.max_attempts })],
    ["parent", link(job.parent)],
    ["retryOf", link(job.retry_of)],
    ["retriedAs", link(job.retried_as)],
    ["worker", job.worker],
    ["created", dateTime(job.created_at)],
    ["started", dateTime(job.started_at)],
    ["finished", dateTime(job.finished_at)],
    ["waited", job.started_at && span((new Date(job.started_at) - new Date(job.created_at)) / 1000)],
    ["took", job.finished_at && job.started_at && span((new Date(job.finished_at) - new Date(job.started_at)) / 1000)],
  ].filter(([, value]) => value);
  return html`
    <section>
      <dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${t(`jobs.fact.${name}`)}</dt><dd>${value}</dd></div>`)}</dl>
      <details><summary>${t("jobs.asked")}</summary><pre>${JSON.stringify(job.arguments, null, 2)}</pre></details>
      ${job.result && html`<details><summary>${t("jobs.answered")}</summary><pre>${JSON.stringify(job.result, null, 2)}</pre></details>`}
    </section>
  `;
}

function Parts({ id }) {
  const list = usePaged("/jobs", { parent: id });
  if (!list.items?.length) return null;
  return html`<section><h2>${t("jobs.itsParts")}</h2><${JobTable} list=${list} empty="" /></section>`;
}

/** Read again with each state the job comes to. */
function History({ id, state }) {
  const list = usePaged(`/jobs/${encodeURIComponent(id)}/events`, undefined, { identity: "at" });
  return html`
    <section key=${state}>
      <h2>${t("jobs.itsHistory")}</h2>
      ${list.error ? html`<${Fault} error=${list.error} />` : !list.items ? html`<${Skeleton} rows=${3} />` : html`
        <ol class="history">${list.items.map((event) => html`
          <li key=${event.at}><time datetime=${event.at}>${dateTime(event.at)}</time><b>${eventName(event.event)}</b>
            <span class="muted">${event.attempt > 1 ? t("jobs.attemptNumber", { attempt: event.attempt }) : ""} ${detailLine(event.details)}</span></li>`)}
        </ol><${More} list=${list} />`}
    </section>
  `;
}

const eventName = (event) => {
  const known = t(`jobs.event.${event}`);
  return known.startsWith("jobs.") ? event.replaceAll("_", " ") : known;
};

const detailLine = (details) =>
  Object.entries(details ?? {})
    .map(([name, value]) => `${name.replaceAll("_", " ")}: ${typeof value === "object" ? JSON.stringify(value) : value}`)
    .join(" · ");
