// The processes that do the work, and whether they are alive.
import { html } from "../html.js";
import { t } from "../text.js";
import { ago, span } from "../format.js";
import { useResource } from "../resource.js";
import { Empty, Fault, Skeleton } from "../parts/empty.js";

const EVERY_MS = 3_000;
const LOOKS = { alive: "good", dead: "bad", stopped: "" };

export function Workers() {
  const { data, error } = useResource("/workers", undefined, { every: EVERY_MS });
  return html`
    <div class="view-head"><h1>${t("nav.workers")}</h1></div>
    ${error && !data ? html`<${Fault} error=${error} />` : !data ? html`<${Skeleton} />` : html`<${Table} workers=${data.items} />`}
  `;
}

function Table({ workers }) {
  if (!workers.some((worker) => worker.alive)) {
    return html`<${Empty} icon="workers" title=${t("workers.none")} text=${t("workers.noneText")} />${workers.length > 0 && html`<${Rows} workers=${workers} />`}`;
  }
  return html`<${Rows} workers=${workers} />`;
}

function Rows({ workers }) {
  return html`
    <div class="table-frame" tabindex="0" role="region" aria-label=${t("nav.workers")}><table>
      <thead><tr><th>${t("workers.worker")}</th><th>${t("workers.state")}</th><th>${t("workers.beat")}</th><th>${t("workers.queues")}</th><th class="number">${t("workers.jobs")}</th><th>${t("workers.since")}</th></tr></thead>
      <tbody>${workers.map((worker) => html`
        <tr key=${worker.id} class=${worker.state === "stopped" ? "muted" : ""}>
          <td><b>${worker.host}</b> <span class="muted">${t("workers.process", { pid: String(worker.pid) })}</span></td>
          <td><span class=${`chip ${LOOKS[worker.state] ?? ""}`}>${t(`workers.is.${worker.state}`)}</span></td>
          <td>${worker.state === "stopped" ? ago(worker.last_beat_at) : t("workers.ago", { time: span(worker.last_beat_age) })}</td>
          <td>${worker.queues.map((queue) => html`<span class="chip" key=${queue}>${t(`queues.${queue}`)}</span> `)}</td>
          <td class="number">${worker.running_jobs}</td>
          <td title=${worker.started_at}>${ago(worker.started_at)}</td>
        </tr>`)}
      </tbody>
    </table></div>
  `;
}
