// What an edit will do, file by file, before it is done.
import { useEffect, useState } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { post } from "../api.js";
import { Dialog } from "../parts/dialog.js";
import { Skeleton } from "../parts/empty.js";
import { Icon } from "../parts/icon.js";
import { differences, labelOf } from "./tag_fields.js";

/** Files written out; the rest is counted. */
const SHOWN = 200;
/** The most that the API tells at once. */
const PAGE = 500;

/**
 * `wanted` is `{touched, cover, pattern, changes}`; `apply` does it. `problem` is what the server had against it.
 */
export function EditPreview({ tracks, wanted, apply, busy, problem, close }) {
  const { touched, cover, pattern, changes } = wanted;
  const names = useNames(tracks, pattern, changes);
  const rows = tracks.map((track) => ({
    track,
    tags: differences(track, touched),
    cover: cover === null ? track.has_cover : Boolean(cover),
    name: names.byTrack?.get(track.id),
  }));
  const changed = rows.filter((row) => row.tags.length || row.cover || row.name?.state === "moves");
  const isConflict = (row) => row.name?.state === "conflict";
  const conflicts = rows.filter(isConflict);
  // What will not come out as wanted is seen first.
  const shown = [...conflicts, ...changed.filter((row) => !isConflict(row))].slice(0, SHOWN);
  const same = tracks.length - changed.length;
  return html`
    <${Dialog} wide title=${t("edit.preview")} close=${close}>
      <p class="lead">${t("edit.willChange", { count: changed.length })} ${same > 0 && t("edit.stays", { count: same })}</p>
      ${conflicts.length > 0 && html`<p class="note warn"><${Icon} name="failures" size=${18} /> ${t("edit.conflicts", { count: conflicts.length })}</p>`}
      ${pattern && !names.byTrack && !names.error && html`<${Skeleton} rows=${3} />`}
      ${names.error && html`<p class="fault-text" role="alert">${names.error.message}</p>`}
      <div class="table-frame preview" tabindex="0" role="region" aria-label=${t("edit.preview")}>
        <table>
          <thead><tr><th>${t("edit.what")}</th><th>${t("edit.before")}</th><th>${t("edit.after")}</th></tr></thead>
          ${shown.map((row) => html`<${FileRows} key=${row.track.id} row=${row} isRemoved=${cover === null} />`)}
        </table>
      </div>
      ${changed.length > SHOWN && html`<p class="muted beyond">${t("edit.further", { count: changed.length - SHOWN })}</p>`}
      ${problem && html`<p class="fault-text" role="alert">${problem.message}</p>`}
      <div class="actions">
        <button class="button plain" onClick=${close}>${t("edit.back")}</button>
        <button class="button" disabled=${busy || !changed.length || (pattern && !names.byTrack)} onClick=${apply}>${t("edit.apply", { count: changed.length })}</button>
      </div>
    <//>
  `;
}

function FileRows({ row: { track, tags, cover, name }, isRemoved }) {
  return html`
    <tbody>
      <tr class="file"><th colspan="3" scope="rowgroup"><span class="path">${track.path}</span></th></tr>
      ${tags.map(({ name: field, before, after }) => html`<tr key=${field}><td>${labelOf(field)}</td><td class="before"><${Value} text=${before} /></td><td class="after"><${Value} text=${after} /></td></tr>`)}
      ${cover && html`<tr><td>${t("edit.cover")}</td><td class="before">${t(track.has_cover ? "edit.coverOld" : "edit.none")}</td><td class="after">${t(isRemoved ? "edit.none" : "edit.coverReplaced")}</td></tr>`}
      ${name && name.state !== "same" && html`<tr><td>${t("edit.name")}</td><td class="before">${name.path}</td>
        <td class=${name.problem ? "bad" : "after"}>${name.new_path}${name.problem && html`<div role="note">${name.problem}</div>`}</td></tr>`}
    </tbody>
  `;
}

const Value = ({ text }) => (text ? html`<span class="value">${text}</span>` : html`<span class="muted">${t("edit.none")}</span>`);

/** The names that the pattern gives, with the tags as they will be: `{byTrack, error}`. */
function useNames(tracks, pattern, changes) {
  const [state, setState] = useState({ byTrack: null, error: null });
  useEffect(() => {
    if (!pattern) return;
    const control = new AbortController();
    const load = async () => {
      const byTrack = new Map();
      let cursor = null;
      do {
        const asked = { ids: tracks.map((track) => track.id), rename_pattern: pattern, changes };
        const page = await post("/tracks/rename/preview", asked, { query: { limit: PAGE, cursor }, signal: control.signal });
        for (const item of page.items) byTrack.set(item.track_id, item);
        cursor = page.next_cursor;
      } while (cursor);
      setState({ byTrack, error: null });
    };
    load().catch((error) => control.signal.aborted || setState({ byTrack: null, error }));
    return () => control.abort();
  }, []);
  return state;
}
