// Editing the tags, the cover and the names of one file or of many: the form, a preview, then one job.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { patch } from "../api.js";
import { useJob } from "../following.js";
import { Link, setQuery } from "../router.js";
import { Empty, Fault, Skeleton } from "../parts/empty.js";
import { Icon } from "../parts/icon.js";
import { Progress } from "../parts/progress.js";
import { useUnsaved } from "../parts/unsaved.js";
import { edit } from "./actions.js";
import { EditCover } from "./edit_cover.js";
import { EditField } from "./edit_field.js";
import { EditPreview } from "./edit_preview.js";
import { EditDone } from "./edit_done.js";
import { MOST, useEditedTracks } from "./edited_tracks.js";
import { NAME_PATTERNS } from "./name_patterns.js";
import { GROUPS, changesOf, textsOf } from "./tag_fields.js";

const EDITABLE = new Set(["COMPLETE", "PENDING"]);
const UNTOUCHED = { touched: {}, cover: undefined, pattern: null };

export function Edit() {
  // `track` may come several times, which the `query` that views are given does not tell.
  const names = new URLSearchParams(location.search);
  const job = names.get("job");
  names.delete("job");
  const { tracks, beyond, error, part, reload } = useEditedTracks(names.toString());
  if (error) return html`<h1>${t("edit.title")}</h1><${Fault} error=${error} retry=${reload} />`;
  if (!tracks) return html`<h1>${t("edit.title")}</h1><${Reading} part=${part} /><${Skeleton} rows=${8} />`;
  if (!tracks.length)
    return html`<h1>${t("edit.title")}</h1><${Empty} icon="edit" title=${t("edit.noneTitle")} text=${t("edit.noneText")}>
      <${Link} class="button" href="/tracks">${t("edit.toTracks")}<//>
    <//>`;
  return html`<${Form} key=${names.toString()} tracks=${tracks} beyond=${beyond} job=${job} reload=${reload} />`;
}

/** Of a thousand tracks it takes a while. */
const Reading = ({ part }) => html`<p class="lead"><${Progress} value=${part.value || null} label=${t("common.loading")} /></p>`;

function Form({ tracks, beyond, job, reload }) {
  const [form, setForm] = useState(UNTOUCHED);
  const [{ isOpen, busy, problem }, setPreview] = useState({ isOpen: false, busy: false, problem: null });
  const [version, setVersion] = useState(0);
  const running = useJob(job);
  const editable = tracks.filter((track) => EDITABLE.has(track.status));
  const { touched, cover, pattern } = form;
  const changes = { ...changesOf(touched), ...(cover !== undefined && { cover: cover?.id ?? null }) };
  const count = Object.keys(touched).length + (cover !== undefined) + Boolean(pattern);
  const isTouched = count > 0;
  useUnsaved(isTouched, () => ({ title: t("edit.leaveTitle"), text: t("edit.leaveText", { count }), yes: t("edit.leaveYes") }));
  const wrong = Object.fromEntries((problem?.fields ?? []).map(({ field, message }) => [field.replace(/^changes\./, ""), message]));
  const touch = (name) => (text) =>
    setForm((before) => {
      const next = { ...before.touched };
      if (text === undefined) delete next[name];
      else next[name] = text;
      return { ...before, touched: next };
    });
  const preview = (event) => {
    event.preventDefault();
    setPreview({ isOpen: true, busy: false, problem: null });
  };
  const apply = async () => {
    setPreview({ isOpen: true, busy: true, problem: null });
    const ask = async () => {
      try {
        const answer = await send(editable, changes, pattern);
        setPreview({ isOpen: false, busy: false, problem: null });
        setForm(UNTOUCHED);
        setQuery({ job: answer.job_id }, { replace: true });
        requestAnimationFrame(toTheTop);
        return answer;
      } catch (error) {
        setPreview({ isOpen: !error.fields?.length, busy: false, problem: error });
        throw error;
      }
    };
    await edit(ask);
    await reload();
    setVersion((before) => before + 1);
  };
  const many = tracks.length > 1;
  return html`
    <div class="view-head">
      <h1>${many ? t("edit.many", { count: tracks.length }) : t("edit.one", { title: tracks[0].title })}</h1>
    </div>
    ${beyond && html`<p class="note warn">${t("edit.beyond", { count: MOST })}</p>`}
    ${editable.length < tracks.length && html`<p class="note warn"><${Icon} name="info" size=${18} />${t("edit.notEditable", { count: tracks.length - editable.length })}</p>`}
    ${job && html`<${EditDone} id=${job} job=${running} after=${async () => (await reload(), setVersion((before) => before + 1))} />`}
    <form class="edit" onSubmit=${preview}>
      <div class="edit-side">
        <${EditCover} tracks=${tracks} touched=${cover} version=${version} touch=${(next) => setForm((before) => ({ ...before, cover: next }))} />
        <${Files} tracks=${tracks} />
      </div>
      <div class="edit-fields">
        ${GROUPS.map(([group, fields]) => {
          const inputs = fields.map(([name]) => html`<${EditField} key=${name} name=${name} texts=${textsOf(tracks, name)} touched=${touched[name]} touch=${touch(name)} problem=${wrong[name]} />`);
          if (group === "main") return html`<div class="edit-grid" key=${group}>${inputs}</div>`;
          return html`<details key=${group} open=${fields.some(([name]) => wrong[name]) || undefined}><summary>${t(`edit.group.${group}`)}</summary><div class="edit-grid">${inputs}</div></details>`;
        })}
        <${Rename} pattern=${pattern} problem=${wrong.rename_pattern} change=${(next) => setForm((before) => ({ ...before, pattern: next }))} />
      </div>
      <div class="edit-actions">
        <span class="muted" role="status">${isTouched ? t("edit.touched", { count }) : t("edit.untouched")}</span>
        <button type="button" class="button plain" disabled=${!isTouched} onClick=${() => setForm(UNTOUCHED)}>${t("edit.reset")}</button>
        <button class="button" disabled=${!isTouched || !editable.length}>${t("edit.preview")}</button>
      </div>
    </form>
    ${isOpen && html`<${EditPreview} tracks=${editable} wanted=${{ ...form, changes }} apply=${apply} busy=${busy} problem=${problem} close=${() => setPreview({ isOpen: false, busy: false, problem })} />`}
  `;
}

/** Where it is said how far the job is. The focus was on a button that has nothing to do any more. */
function toTheTop() {
  const main = document.getElementById("main");
  main.focus({ preventScroll: true });
  main.scrollTop = 0;
}

function send(tracks, changes, pattern) {
  if (tracks.length === 1) return patch(`/tracks/${tracks[0].id}`, { ...changes, rename_pattern: pattern });
  return patch("/tracks", { ids: tracks.map((track) => track.id), changes, rename_pattern: pattern });
}

function Rename({ pattern, change, problem }) {
  return html`
    <fieldset class="edit-rename">
      <legend><label class="check"><input type="checkbox" checked=${pattern !== null} onChange=${({ target }) => change(target.checked ? NAME_PATTERNS[0] : null)} /> ${t("edit.rename")}</label></legend>
      ${pattern !== null && html`<label class="field"><span>${t("edit.pattern")}</span>
        <input type="text" required maxlength="500" spellcheck=${false} list="edit-patterns" value=${pattern} aria-invalid=${Boolean(problem)} onInput=${({ target }) => change(target.value)} />
        <datalist id="edit-patterns">${NAME_PATTERNS.map((each) => html`<option key=${each} value=${each} />`)}</datalist>
        ${problem ? html`<small class="fault-text" role="alert">${problem}</small>` : html`<small>${t("edit.patternHint")}</small>`}</label>`}
    </fieldset>
  `;
}

function Files({ tracks }) {
  const first = tracks.slice(0, 100);
  return html`
    <details class="edit-files" open=${tracks.length < 20}>
      <summary>${t("edit.files", { count: tracks.length })}</summary>
      <ul tabindex="0">${first.map((track) => html`<li key=${track.id} title=${track.path}><span class="ellipsis">${track.title}</span><span class="path ellipsis">${track.path}</span></li>`)}</ul>
      ${tracks.length > first.length && html`<p class="muted">${t("edit.further", { count: tracks.length - first.length })}</p>`}
    </details>
  `;
}
