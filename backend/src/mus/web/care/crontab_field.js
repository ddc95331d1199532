// Choosing when something comes by itself.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { RHYTHMS, dayName, parsed, written } from "./crontab.js";

const EVERY = { minutes: [5, 10, 15, 20, 30], hours: [2, 3, 4, 6, 8, 12] };
const two = (value) => String(value).padStart(2, "0");

/** `value` is a crontab; `change` is told of another one. `problem` is what the server had against it. */
export function CrontabField({ value, change, problem }) {
  const [own, setOwn] = useState(parsed(value).rhythm === "own");
  const found = parsed(value);
  const rhythm = own ? "own" : found.rhythm;
  const { minute = 0, hour = 4, day = 0, every } = found;
  const choose = (changes) => change(written({ rhythm, minute, hour, day, every, ...changes }));
  const chooseRhythm = (next) => {
    setOwn(next === "own");
    if (next !== "own") choose({ rhythm: next, every: next === "minutes" ? 15 : 6 });
  };
  return html`
    <div class="crontab-field">
      <label class="field"><span>${t("crontab.often")}</span>
        <select value=${rhythm} onChange=${({ target }) => chooseRhythm(target.value)}>
          ${RHYTHMS.map((name) => html`<option key=${name} value=${name} selected=${name === rhythm}>${t(`crontab.rhythm.${name}`)}</option>`)}
        </select></label>
      ${EVERY[rhythm] && html`<label class="field"><span>${t(`crontab.every.${rhythm}`)}</span>
        <select onChange=${({ target }) => choose({ every: Number(target.value) })}>
          ${[...new Set([...EVERY[rhythm], every])].sort((a, b) => a - b).map((number) => html`<option key=${number} value=${number} selected=${number === every}>${number}</option>`)}
        </select></label>`}
      ${(rhythm === "hourly" || rhythm === "hours") && html`<label class="field"><span>${t("crontab.minute")}</span>
        <input type="number" min="0" max="59" required value=${minute} onChange=${({ target }) => target.reportValidity() && choose({ minute: Number(target.value) })} /></label>`}
      ${rhythm === "weekly" && html`<label class="field"><span>${t("crontab.day")}</span>
        <select onChange=${({ target }) => choose({ day: Number(target.value) })}>
          ${[1, 2, 3, 4, 5, 6, 0].map((each) => html`<option key=${each} value=${each} selected=${each === day}>${dayName(each)}</option>`)}
        </select></label>`}
      ${(rhythm === "daily" || rhythm === "weekly") && html`<label class="field"><span>${t("crontab.time")}</span>
        <input type="time" required value=${`${two(hour)}:${two(minute)}`} onChange=${({ target }) => {
          if (!target.reportValidity()) return;
          const [newHour, newMinute] = target.value.split(":").map(Number);
          choose({ hour: newHour, minute: newMinute });
        }} /></label>`}
      ${rhythm === "own" && html`<label class="field"><span>${t("crontab.text")}</span>
        <input type="text" required maxlength="100" spellcheck=${false} value=${value} aria-invalid=${Boolean(problem)} onInput=${({ target }) => change(target.value)} />
        <small>${t("crontab.hint")}</small></label>`}
      ${problem && html`<p class="fault-text" role="alert">${problem}</p>`}
    </div>
  `;
}
