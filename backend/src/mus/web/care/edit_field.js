// One tag in the form. With several values it says so, and stays as it is until it is touched.
import { useId } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { IconButton } from "../parts/icon.js";
import { kindOf, labelOf } from "./tag_fields.js";

/** Values offered of those that differ. */
const OFFERED = 30;

/**
 * `texts` are the different values of the tracks; `touched` what the person wants instead, undefined for nothing,
 * empty for no such tag. `touch(text)` says so.
 */
export function EditField({ name, texts, touched, touch, problem }) {
  const id = useId();
  const kind = kindOf(name);
  const isTouched = touched !== undefined;
  const isMixed = texts.length > 1;
  const text = isTouched ? touched : isMixed ? "" : texts[0];
  const placeholder = isTouched ? (isMixed || texts[0] ? t("edit.removed") : "") : isMixed ? t(kind === "number" ? "edit.severalShort" : "edit.several", { count: texts.length }) : "";
  const onInput = ({ target }) => touch(!isMixed && target.value === texts[0] ? undefined : target.value);
  const common = { id, value: text, placeholder, onInput, "aria-invalid": Boolean(problem), "aria-describedby": problem || isMixed ? `${id}-note` : undefined };
  const note = problem ?? (isMixed && !isTouched ? t("edit.leftAlone") : isTouched ? t(touched === "" ? "edit.goes" : "edit.changed") : "");
  return html`
    <div class=${`field edit-field ${isTouched ? "touched" : ""} ${kind === "lines" ? "wide" : ""}`}>
      <label for=${id}>${labelOf(name)}${kind === "list" && html` <small>${t("edit.oneALine")}</small>`}</label>
      <div class="edit-input">
        ${input(kind, common, { texts, isMixed, isTouched, touch })}
        ${isTouched
          ? html`<${IconButton} icon="restore" size=${18} label=${t("edit.leave", { field: labelOf(name) })} onClick=${() => touch(undefined)} />`
          : kind !== "flag" && texts.some(Boolean) && html`<${IconButton} icon="close" size=${18} label=${t("edit.remove", { field: labelOf(name) })} onClick=${() => touch("")} />`}
      </div>
      <small id=${`${id}-note`} class=${problem ? "fault-text" : ""} role=${problem ? "alert" : undefined}>${note}</small>
    </div>
  `;
}

function input(kind, { value, onInput, ...common }, { texts, isMixed, isTouched, touch }) {
  if (kind === "flag")
    return html`<select id=${common.id} aria-describedby=${common["aria-describedby"]} onChange=${({ target }) => touch(target.value === "mixed" || (!isMixed && target.value === texts[0]) ? undefined : target.value)}>
      ${isMixed && html`<option value="mixed" selected=${!isTouched}>${common.placeholder || t("edit.severalShort")}</option>`}
      <option value="yes" selected=${value === "yes"}>${t("edit.yes")}</option>
      <option value="" selected=${value === "" && (isTouched || !isMixed)}>${t("edit.no")}</option>
    </select>`;
  if (kind === "lines" || kind === "list")
    return html`<textarea ...${common} value=${value} onInput=${onInput} rows=${kind === "lines" ? 4 : Math.min(6, Math.max(1, value.split("\n").length))} spellcheck=${kind === "lines"} />`;
  const list = isMixed ? `${common.id}-values` : undefined;
  const own = { number: { type: "number", min: 0, max: 65_535, step: 1 }, date: { type: "text", inputmode: "numeric", maxlength: 10, pattern: "[12][0-9]{3}(-[0-9]{2}(-[0-9]{2})?)?", title: t("edit.dateHint") } }[kind] ?? { type: "text" };
  return html`
    <input ...${common} ...${own} value=${value} onInput=${onInput} list=${list} autocomplete="off" spellcheck=${false} />
    ${list && html`<datalist id=${list}>${texts.filter(Boolean).slice(0, OFFERED).map((each) => html`<option key=${each} value=${each} />`)}</datalist>`}
  `;
}
