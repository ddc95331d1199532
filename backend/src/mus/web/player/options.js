// How it sounds, and the keys: a dialog that `?` opens as well.
import { useEffect } from "preact/hooks";
import { effect, signal } from "@preact/signals";
import { html } from "../html.js";
import { t } from "../text.js";
import { Dialog } from "../parts/dialog.js";
import { MODES, learn, level, mode } from "./loudness.js";
import { current } from "./queue.js";

export const optionsShown = signal(false);
/** Whether keys do something without a modifier: who speaks to the page, or hits keys by accident, turns it off. */
export const singleKeys = signal(localStorage.getItem("mus.keys") !== "off");
effect(() => localStorage.setItem("mus.keys", singleKeys.value ? "on" : "off"));

const close = () => {
  optionsShown.value = false;
};
const decibels = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1, signDisplay: "exceptZero" });

export function Options() {
  const entry = current.value;
  // A track from the last visit was not played yet, and so nothing was asked about it.
  useEffect(() => void (entry && learn(entry)), [entry?.id]);
  return html`
    <${Dialog} title=${t("player.options")} close=${close}>
      <fieldset class="loudness">
        <legend>${t("player.loudness")}</legend>
        <p class="muted">${t("player.loudnessHint")}</p>
        ${MODES.map((name) => html`<label key=${name}>
          <input type="radio" name="loudness" value=${name} checked=${mode.value === name} onChange=${() => (mode.value = name)} />
          ${t(`player.modes.${name}`)}
        </label>`)}
        ${entry && mode.value !== "off" && html`<p class="gain" role="status">${gainText(level.value)}</p>`}
      </fieldset>
      <section class="shortcuts">
        <h3>${t("player.shortcuts")}</h3>
        <dl>
          <${Keys} name="toggle" keys=${[[t("player.keys.space")]]} />
          <${Keys} name="seek" keys=${[["←"], ["→"]]} />
          <${Keys} name="step" keys=${[["p"], ["n"], ["Shift", "←"], ["Shift", "→"]]} />
          <${Keys} name="mute" keys=${[["m"]]} />
          <${Keys} name="volume" keys=${[["↑"], ["↓"]]} />
          <${Keys} name="search" keys=${[["/"]]} />
          <${Keys} name="help" keys=${[["?"]]} />
        </dl>
        <label>
          <input type="checkbox" checked=${singleKeys.value} onChange=${(event) => (singleKeys.value = event.target.checked)} />
          ${t("player.singleKeys")}
        </label>
      </section>
    <//>
  `;
}

function gainText({ decibels: value, album }) {
  if (value === null) return t("player.gainNone");
  return t(album ? "player.gainAlbum" : "player.gainTrack", { decibels: decibels.format(value).replace("-", "−") });
}

function Keys({ name, keys }) {
  return html`<div>
    <dt>${t(`player.keys.${name}`)}</dt>
    <dd>${keys.map((together) => html`<span key=${together.join()}>${together.map((key) => html`<kbd key=${key}>${key}</kbd>`)}</span>`)}</dd>
  </div>`;
}
