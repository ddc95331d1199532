// The cover in the form: see it, put another one in its place, or take it out.
import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { coverUrl, post } from "../api.js";
import { Icon } from "../parts/icon.js";
import { sayFault } from "../parts/toast.js";
import { hasFiles } from "./dropped.js";

const KINDS = "image/jpeg,image/png,image/webp,image/gif";
const SHOWN = 4;

/** `touched`: undefined leaves covers alone, null takes them out, `{id, url, width, height}` is the new one. */
export function EditCover({ tracks, touched, touch, version }) {
  const picker = useRef(null);
  const [over, setOver] = useState(false);
  const [busy, setBusy] = useState(false);
  useEffect(() => () => touched?.url && URL.revokeObjectURL(touched.url), [touched]);
  const take = async (file) => {
    if (!file) return;
    setBusy(true);
    try {
      const picture = await post("/pictures", file, { headers: { "Content-Type": file.type || "application/octet-stream" } });
      touch({ ...picture, url: URL.createObjectURL(file) });
    } catch (error) {
      sayFault(error);
    }
    setBusy(false);
  };
  const drag = (isOver) => (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.stopPropagation();
    setOver(isOver);
  };
  const drop = (event) => {
    drag(false)(event);
    take(event.dataTransfer.files[0]);
  };
  const covered = tracks.filter((track) => track.has_cover);
  const state = touched ? t("edit.coverNew", touched) : touched === null ? t("edit.coverGoes") : tracks.length > 1 ? t("edit.coverNow", { count: covered.length, all: tracks.length }) : covered.length ? "" : t("edit.coverNone");
  return html`
    <section class="edit-cover" aria-label=${t("edit.cover")}>
      <div class=${`cover-place ${over ? "over" : ""}`} aria-busy=${busy} onDragEnter=${drag(true)} onDragOver=${drag(true)} onDragLeave=${drag(false)} onDrop=${drop}>
        ${touched
          ? html`<img class="cover" src=${touched.url} alt=${t("edit.coverNew", touched)} />`
          : html`<div class=${`covers ${touched === null ? "going" : ""} of-${Math.min(SHOWN, covered.length)}`}>
              ${covered.slice(0, covered.length > 1 ? SHOWN : 1).map((track) => html`<img class="cover" key=${track.id} src=${`${coverUrl(track.id)}#${version}`} alt="" />`)}
              ${!covered.length && html`<div class="cover none"><${Icon} name="albums" size="40%" /></div>`}
            </div>`}
        <span class="drop-hint"><${Icon} name="upload" /> ${t("edit.coverDrop")}</span>
      </div>
      <p class="muted" role="status">${busy ? t("common.loading") : state}</p>
      <div class="actions">
        <button type="button" class="button plain" disabled=${busy} onClick=${() => picker.current.click()}>${t("edit.coverPick")}</button>
        ${touched !== undefined
          ? html`<button type="button" class="button plain" onClick=${() => touch(undefined)}>${t("edit.coverLeave")}</button>`
          : covered.length > 0 && html`<button type="button" class="button plain" onClick=${() => touch(null)}>${t("edit.coverRemove")}</button>`}
      </div>
      <input ref=${picker} type="file" accept=${KINDS} hidden aria-label=${t("edit.coverPick")} onChange=${({ target }) => (take(target.files[0]), (target.value = ""))} />
    </section>
  `;
}
