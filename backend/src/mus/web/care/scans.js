// A library's scans: the one that runs, live, and the last ones.
import { useEffect } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { ago, count, dateTime, span } from "../format.js";
import { del } from "../api.js";
import { jobNow } from "../following.js";
import { on } from "../live.js";
import { refresh, useResource } from "../resource.js";
import { Link, at } from "../router.js";
import { Icon } from "../parts/icon.js";
import { Progress } from "../parts/progress.js";
import { sayFault } from "../parts/toast.js";
import { scan } from "./actions.js";
import { scanOutcome } from "./outcomes.js";

const SHOWN = 6;
const OPEN = new Set(["queued", "running", "waiting", "retrying"]);

export function Scans({ library, disabled }) {
  const { data } = useResource("/scans", { library, limit: SHOWN });
  useEffect(() => {
    const isScan = (job) => job.task === "scan_library";
    const stops = [on("begun", (job) => isScan(job) && refresh("/scans")), on("ended", (job) => isScan(job) && refresh("/libraries"))];
    return () => stops.forEach((stop) => stop());
  }, []);
  const scans = data?.items ?? [];
  // The stream is ahead of what was asked for.
  const open = scans.filter((each) => OPEN.has(jobNow(each.job_id)?.state ?? each.state));
  const past = scans.filter((each) => !open.includes(each));
  return html`
    <div class="scan-now">
      ${open.map((each) => html`<${Running} key=${each.job_id} scan=${each} />`)}
      ${!open.length && html`<button class="button plain" disabled=${disabled} onClick=${() => scan({ library })}><${Icon} name="scan" size=${18} />${t("libraries.scan")}</button>`}
      ${!open.length && past[0] && html`<span class="muted" title=${dateTime(past[0].finished_at)}>${t("libraries.lastScan", { when: ago(past[0].finished_at) })} <${Outcome} scan=${past[0]} /></span>`}
    </div>
    ${past.length > 0 && html`<details class="past-scans">
      <summary>${t("libraries.history")}</summary>
      <div class="table-frame" tabindex="0" role="region" aria-label=${t("libraries.historyOf", { library })}>
        <table>
          <thead><tr><th>${t("libraries.when")}</th><th>${t("libraries.kind")}</th><th>${t("libraries.by")}</th><th class="number">${t("libraries.found")}</th><th>${t("libraries.outcome")}</th><th class="number">${t("libraries.took")}</th></tr></thead>
          <tbody>${past.map((each) => html`<tr key=${each.job_id}>
            <td><${Link} href=${at("jobs", each.job_id)} title=${dateTime(each.created_at)}>${ago(each.created_at)}<//></td>
            <td>${t(`libraries.mode.${each.mode ?? "quick"}`)}${each.path && html` <span class="path">${each.path}</span>`}</td>
            <td>${each.requested_by ?? t("libraries.itself")}</td>
            <td class="number">${each.found === null ? "" : count(each.found)}</td>
            <td><${Outcome} scan=${each} /></td>
            <td class="number">${span(each.seconds)}</td>
          </tr>`)}</tbody>
        </table>
      </div>
    </details>`}
  `;
}

function Outcome({ scan: done }) {
  if (done.state === "succeeded") return scanOutcome([done]);
  if (done.state === "cancelled") return t("libraries.cancelled");
  return html`<span class="bad">${done.error?.message ?? t(`libraries.failed`)}</span>`;
}

function Running({ scan: asked }) {
  const job = jobNow(asked.job_id);
  const { units_done: done = 0, units_total: total = 0 } = job?.details ?? {};
  const waits = (job?.state ?? asked.state) === "queued";
  const text = waits ? t("libraries.scanWaits") : total ? t("libraries.scanned", { done, total }) : t("libraries.scanning");
  const cancel = () => del(`/jobs/${asked.job_id}`).catch(sayFault);
  return html`
    <div class="scan-running">
      <${Link} href=${at("jobs", asked.job_id)}>${text}<//>
      <${Progress} value=${job?.progress || null} label=${t("libraries.scanning")} />
      <button class="text-button" onClick=${cancel}>${t("common.cancel")}</button>
    </div>
  `;
}
