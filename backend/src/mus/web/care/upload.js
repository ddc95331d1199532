// Uploads: what was handed in, where it goes, how far it is.
import { useRef } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { bytes } from "../format.js";
import { useResource } from "../resource.js";
import { Link, at } from "../router.js";
import { Icon, IconButton } from "../parts/icon.js";
import { Progress } from "../parts/progress.js";
import { filesOfInput } from "./dropped.js";
import { NAME_PATTERNS } from "./name_patterns.js";
import { add, again, clear, keepBoth, leftOut, skip, start, stop, target, totals, uploads } from "./uploads.js";

/** Rows drawn: nobody reads more of them. */
const SHOWN = 300;
const FIRST = { failed: 0, taken: 1, sending: 2, placing: 3, staged: 4, waiting: 5, chosen: 6, done: 7 };

export function Upload() {
  const { data: libraries } = useResource("/libraries");
  const items = uploads.value.filter(({ state }) => state.value.is !== "skipped");
  // What needs a person comes first.
  const shown = [...items].sort((a, b) => FIRST[a.state.value.is] - FIRST[b.state.value.is]).slice(0, SHOWN);
  return html`
    <div class="view-head"><h1>${t("nav.upload")}</h1></div>
    <${Handing} small=${items.length > 0} />
    ${items.length > 0 && html`
      <div class="upload">
        <${Target} libraries=${libraries?.items ?? []} />
        <${Summary} />
        <${Conflicts} items=${items} />
        <ul class="uploads">${shown.map((item) => html`<${Row} key=${item.key} item=${item} />`)}</ul>
        ${items.length > SHOWN && html`<p class="muted">${t("upload.further", { count: items.length - SHOWN })}</p>`}
      </div>`}
    ${leftOut.value.length > 0 && html`<details class="left-out"><summary>${t("upload.leftOut", { count: leftOut.value.length })}</summary>
      <ul>${leftOut.value.slice(0, SHOWN).map((path) => html`<li class="path" key=${path}>${path}</li>`)}</ul></details>`}
  `;
}

function Handing({ small }) {
  const files = useRef(null);
  const folder = useRef(null);
  const taken = ({ target: input }) => {
    add(filesOfInput(input));
    input.value = ""; // the same ones may be picked again
  };
  return html`
    <div class=${small ? "drop-zone small" : "drop-zone"}>
      <${Icon} name="upload" size=${small ? 28 : 56} />
      <div><strong>${t("upload.dropTitle")}</strong><p class="muted">${t("upload.dropText")}</p></div>
      <div class="actions">
        <button class="button" onClick=${() => files.current.click()}>${t("upload.files")}</button>
        <button class="button plain" onClick=${() => folder.current.click()}>${t("upload.folder")}</button>
      </div>
      <input ref=${files} type="file" multiple hidden accept="audio/*" aria-label=${t("upload.files")} onChange=${taken} />
      <input ref=${folder} type="file" webkitdirectory hidden aria-label=${t("upload.folder")} onChange=${taken} />
    </div>
  `;
}

function Target({ libraries }) {
  const { library, folder, pattern } = target.value;
  const set = (changes) => (target.value = { ...target.value, ...changes });
  return html`
    <div class="card target">
      ${libraries.length > 1 && html`<label class="field"><span>${t("upload.library")}</span>
        <select onChange=${(event) => set({ library: event.target.value })}>
          ${libraries.map(({ name, online }) => html`<option key=${name} value=${name} disabled=${!online} selected=${name === library}>${name}</option>`)}
        </select></label>`}
      <label class="field"><span>${t("upload.names")}</span>
        <select onChange=${(event) => set({ pattern: event.target.value === "tags" ? NAME_PATTERNS[0] : null })}>
          <option value="keep" selected=${pattern === null}>${t("upload.keepNames")}</option>
          <option value="tags" selected=${pattern !== null}>${t("upload.byTags")}</option>
        </select></label>
      ${pattern === null
        ? html`<label class="field"><span>${t("upload.into")}</span>
            <input type="text" maxlength="1000" spellcheck=${false} placeholder=${t("upload.top")} value=${folder} onInput=${(event) => set({ folder: event.target.value })} /></label>`
        : html`<label class="field wide"><span>${t("upload.pattern")}</span>
            <input type="text" maxlength="500" spellcheck=${false} list="upload-patterns" value=${pattern} onInput=${(event) => set({ pattern: event.target.value })} />
            <datalist id="upload-patterns">${NAME_PATTERNS.map((each) => html`<option key=${each} value=${each} />`)}</datalist></label>`}
    </div>
  `;
}

function Summary() {
  const { count: all, size, sent, done, failed, taken, staged, chosen, active } = totals.value;
  const text = active
    ? t("upload.going", { done: done + staged, count: all, sent: bytes(sent), size: bytes(size) })
    : chosen
      ? t("upload.chosen", { count: chosen, size: bytes(size - sent) })
      : staged || taken ? t("upload.held", { count: taken + failed }) : t("upload.over", { count: done });
  return html`
    <div class="upload-summary">
      <div role="status"><strong>${text}</strong>${failed > 0 && html` <span class="chip bad">${t("upload.failed", { count: failed })}</span>`}</div>
      ${active > 0 && html`<${Progress} value=${size ? sent / size : null} label=${t("upload.all")} />`}
      <div class="actions">
        ${chosen > 0 && html`<button class="button" onClick=${start}><${Icon} name="upload" size=${18} />${t("upload.start", { count: chosen })}</button>`}
        ${active > 0 && html`<button class="button plain" onClick=${stop}>${t("upload.stop")}</button>`}
        ${!active && done > 0 && html`<${Link} class="button plain" href="/recent">${t("upload.see")}<//>`}
        ${!active && html`<button class="button plain" onClick=${clear}>${t("upload.clear")}</button>`}
      </div>
    </div>
  `;
}

/** One choice for all of them. */
function Conflicts({ items }) {
  const taken = items.filter(({ state }) => state.value.is === "taken");
  const failed = items.filter(({ state }) => state.value.is === "failed");
  return html`
    ${taken.length > 1 && html`<div class="note warn"><strong>${t("upload.takenCount", { count: taken.length })}</strong><div class="actions">
      <button class="button plain" onClick=${() => taken.forEach(keepBoth)}>${t("upload.bothAll")}</button>
      <button class="button plain" onClick=${() => taken.forEach(skip)}>${t("upload.skipAll")}</button></div></div>`}
    ${failed.length > 1 && html`<div class="note bad"><strong>${t("upload.failed", { count: failed.length })}</strong><div class="actions">
      <button class="button plain" onClick=${() => failed.forEach(again)}>${t("upload.retryAll")}</button></div></div>`}
  `;
}

function Row({ item }) {
  const { path, file, state } = item;
  const { is, message, track, place } = state.value;
  const sent = item.sent.value;
  const name = place ?? path;
  return html`
    <li class=${`upload-row ${is}`}>
      <div class="what">
        ${track ? html`<${Link} class="ellipsis" href=${at("tracks", String(track))}>${name}<//>` : html`<span class="ellipsis" title=${name}>${name}</span>`}
        ${message && html`<span class=${is === "taken" ? "warn" : "bad"} role="alert">${message}</span>`}
      </div>
      <span class="muted number">${is === "sending" ? `${bytes(sent)} / ${bytes(file.size)}` : bytes(file.size)}</span>
      <span class=${`chip ${{ done: "good", failed: "bad", taken: "warn", sending: "busy", placing: "busy" }[is] ?? ""}`}>${is === "sending" && sent >= file.size ? t("upload.is.checking") : t(`upload.is.${is}`)}</span>
      <div class="row-actions">
        ${is === "taken" && html`<button class="text-button" onClick=${() => keepBoth(item)}>${t("upload.both")}</button>`}
        ${is === "failed" && html`<button class="text-button" onClick=${() => again(item)}>${t("common.retry")}</button>`}
        ${["taken", "failed", "chosen", "waiting"].includes(is) && html`<${IconButton} icon="close" size=${16} label=${t("upload.skip", { path })} onClick=${() => skip(item)} />`}
      </div>
      ${is === "sending" && html`<${Progress} value=${file.size ? sent / file.size : null} label=${path} />`}
    </li>
  `;
}
