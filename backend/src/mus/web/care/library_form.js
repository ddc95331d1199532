// Adding a library, or changing one.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { patch, post } from "../api.js";
import { refresh } from "../resource.js";
import { Dialog } from "../parts/dialog.js";
import { say } from "../parts/toast.js";
import { CrontabField } from "./crontab_field.js";

const WATCH = ["auto", "events", "polling", "off"];
const COMMON_CRONTAB = "23 * * * *";

export function LibraryForm({ library, schedule, close }) {
  const [form, setForm] = useState({
    name: library?.name ?? "",
    root: library?.root ?? "",
    watch: library?.watch ?? "auto",
    scans: !library?.scan_crontab ? "common" : library.scan_crontab === "off" ? "off" : "own",
    crontab: library?.scan_crontab && library.scan_crontab !== "off" ? library.scan_crontab : (schedule?.crontab ?? COMMON_CRONTAB),
    least: library?.guard_min_tracks ?? "",
    percent: library?.guard_fraction ? Math.round(library.guard_fraction * 100) : "",
  });
  const [{ busy, problem }, setState] = useState({ busy: false, problem: null });
  const set = (name) => ({ target }) => setForm({ ...form, [name]: target.value });
  const wrong = Object.fromEntries((problem?.fields ?? []).map(({ field, message }) => [field, message]));
  const submit = async (event) => {
    event.preventDefault();
    setState({ busy: true, problem: null });
    try {
      await send(library, asked(form));
      refresh("/libraries", "/health", "/scans");
      close();
    } catch (error) {
      setState({ busy: false, problem: error });
    }
  };
  const field = (name, input, hint) => html`<label class="field"><span>${t(`libraries.${name}`)}</span>${input}
    ${wrong[name] ? html`<small class="fault-text" role="alert">${wrong[name]}</small>` : hint && html`<small>${hint}</small>`}</label>`;
  return html`
    <${Dialog} title=${library ? t("libraries.changeOf", { name: library.name }) : t("libraries.add")} close=${close}>
      <form class="form" onSubmit=${submit}>
        ${field("name", html`<input type="text" required maxlength="100" autofocus value=${form.name} onInput=${set("name")} aria-invalid=${Boolean(wrong.name)} />`)}
        ${field("root", html`<input type="text" required maxlength="4096" spellcheck=${false} placeholder="/srv/music" value=${form.root} onInput=${set("root")} aria-invalid=${Boolean(wrong.root)} />`,
          t(library ? "libraries.rootMoved" : "libraries.rootHint"))}
        ${field("watching", html`<select onChange=${set("watch")}>${WATCH.map((name) => html`<option key=${name} value=${name} selected=${name === form.watch}>${t(`libraries.watching_.${name}`)}</option>`)}</select>`)}
        ${field("schedule", html`<select onChange=${set("scans")}>${["common", "own", "off"].map((name) => html`<option key=${name} value=${name} selected=${name === form.scans}>${t(`libraries.scans.${name}`)}</option>`)}</select>`)}
        ${form.scans === "own" && html`<${CrontabField} value=${form.crontab} change=${(crontab) => setForm({ ...form, crontab })} problem=${wrong.scan_crontab} />`}
        <fieldset>
          <legend>${t("libraries.guard")}</legend>
          <p class="muted">${t("libraries.guardText")}</p>
          ${field("guard_min_tracks", html`<input type="number" min="1" step="1" placeholder=${t("libraries.usual")} value=${form.least} onInput=${set("least")} />`)}
          ${field("guard_fraction", html`<input type="number" min="1" max="100" step="1" placeholder=${t("libraries.usual")} value=${form.percent} onInput=${set("percent")} />`)}
        </fieldset>
        ${problem && !problem.fields.length && html`<p class="fault-text" role="alert">${problem.message}</p>`}
        <div class="actions">
          <button type="button" class="button plain" onClick=${close}>${t("common.cancel")}</button>
          <button class="button" disabled=${busy}>${t(library ? "libraries.save" : "libraries.add")}</button>
        </div>
      </form>
    <//>
  `;
}

function asked({ name, root, watch, scans, crontab, least, percent }) {
  return {
    name: name.trim(),
    root: root.trim(),
    watch,
    scan_crontab: scans === "common" ? null : scans === "off" ? "off" : crontab,
    guard_min_tracks: least === "" ? null : Number(least),
    guard_fraction: percent === "" ? null : Number(percent) / 100,
  };
}

async function send(library, body) {
  if (!library) {
    const added = await post("/libraries", body);
    say(t("libraries.added", { name: added.name }), { job: added.scan_job_id });
    return;
  }
  // A folder that stays is not named: naming it has its files compared.
  if (body.root === library.root) delete body.root;
  await patch(`/libraries/${library.id}`, body);
  say(t("libraries.changed", { name: body.name }));
}
