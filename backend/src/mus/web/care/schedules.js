// What mus does by itself, and when.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { patch, post } from "../api.js";
import { ago, dateTime } from "../format.js";
import { refresh, useResource } from "../resource.js";
import { Link, at } from "../router.js";
import { Dialog } from "../parts/dialog.js";
import { Fault, Skeleton } from "../parts/empty.js";
import { Menu } from "../parts/menu.js";
import { sayFault } from "../parts/toast.js";
import { follow } from "./actions.js";
import { CrontabField } from "./crontab_field.js";
import { inWords } from "./crontab.js";

const MINUTE_MS = 60_000;

export function Schedules() {
  const { data, error } = useResource("/schedules", {}, { every: MINUTE_MS });
  const [edited, setEdited] = useState(null);
  return html`
    <section aria-labelledby="schedules">
      <h2 id="schedules">${t("settings.schedules")}</h2>
      <p class="lead">${t("settings.schedulesText")}</p>
      ${!data && (error ? html`<${Fault} error=${error} />` : html`<${Skeleton} rows=${6} />`)}
      <ul class="schedules">
        ${data?.items.map((schedule) => html`<${Schedule} key=${schedule.name} schedule=${schedule} change=${() => setEdited(schedule)} />`)}
      </ul>
      ${edited && html`<${ScheduleForm} schedule=${edited} close=${() => setEdited(null)} />`}
    </section>
  `;
}

function Schedule({ schedule, change }) {
  const { name, description, crontab, default_crontab, enabled, edited, next_due, last_fired_at, last_job } = schedule;
  const title = t(`settings.schedule.${name}`);
  const does = async (request) => {
    try {
      await request();
    } catch (error) {
      sayFault(error);
    }
    refresh("/schedules");
  };
  const now = async () => {
    await follow(t("settings.running", { name: title }), [() => post(`/schedules/${name}/run`)], () => t("settings.ran", { name: title }));
    refresh("/schedules");
  };
  return html`
    <li class="schedule">
      <label class="switch"><input type="checkbox" role="switch" checked=${enabled} aria-label=${t("settings.on", { name: title })}
        onChange=${({ target }) => does(() => patch(`/schedules/${name}`, { enabled: target.checked }))} /></label>
      <div class="what">
        <strong>${title}</strong>
        <span class="muted">${description}</span>
        <span class=${enabled ? "" : "muted"}>${enabled ? t("settings.comes", { when: inWords(crontab), next: dateTime(next_due) }) : t("settings.off")}</span>
        <span class="muted">
          ${last_fired_at ? t("settings.last", { when: ago(last_fired_at) }) : t("settings.neverRan")}
          ${last_job && html` · <${Link} href=${at("jobs", last_job.id)}>${t(`settings.state.${last_job.state}`)}<//>`}
          ${edited && html` <span class="chip">${t("settings.edited")}</span>`}
        </span>
      </div>
      <${Menu} label=${t("settings.actionsOf", { name: title })} items=${[
        { label: t("settings.now"), icon: "play", run: now },
        { label: t("settings.change"), icon: "edit", run: change },
        edited && { label: t("settings.reset", { when: inWords(default_crontab) }), icon: "restore", run: () => does(() => post(`/schedules/${name}/reset`)) },
      ]} />
    </li>
  `;
}

function ScheduleForm({ schedule, close }) {
  const [crontab, setCrontab] = useState(schedule.crontab);
  const [days, setDays] = useState(schedule.arguments.days);
  const [problem, setProblem] = useState(null);
  const title = t(`settings.schedule.${schedule.name}`);
  const submit = async (event) => {
    event.preventDefault();
    try {
      await patch(`/schedules/${schedule.name}`, { crontab, ...(days !== undefined && { arguments: { days: Number(days) } }) });
      refresh("/schedules");
      close();
    } catch (error) {
      setProblem(error.fields[0]?.message ?? error.message);
    }
  };
  return html`
    <${Dialog} title=${title} close=${close}>
      <form class="form" onSubmit=${submit}>
        <p class="muted">${schedule.description}</p>
        <${CrontabField} value=${crontab} change=${setCrontab} problem=${problem} />
        ${days !== undefined && html`<label class="field"><span>${t("settings.days")}</span>
          <input type="number" min="1" step="1" required value=${days} onInput=${({ target }) => setDays(target.value)} /></label>`}
        <p class="muted" aria-live="polite">${inWords(crontab)}</p>
        <div class="actions">
          <button type="button" class="button plain" onClick=${close}>${t("common.cancel")}</button>
          <button class="button">${t("settings.save")}</button>
        </div>
      </form>
    <//>
  `;
}
