// What can be changed while mus runs, and how it is.
import { html } from "../html.js";
import { t } from "../text.js";
import { session, signOut } from "../session.js";
import { THEMES, theme } from "../theme.js";
import { MODES, mode } from "../player/loudness.js";
import { sayFault } from "../parts/toast.js";
import { Icon } from "../parts/icon.js";
import { Health } from "./health.js";
import { Schedules } from "./schedules.js";

export function Settings() {
  return html`
    <h1>${t("nav.settings")}</h1>
    <div class="settings">
      <${Appearance} />
      <${Sound} />
      <${Health} />
      <${Schedules} />
      <${About} />
    </div>
  `;
}

function Appearance() {
  return html`
    <section aria-labelledby="appearance">
      <h2 id="appearance">${t("settings.appearance")}</h2>
      <div class="tabs" role="group" aria-label=${t("settings.theme")}>
        ${THEMES.map((name) => html`<button key=${name} aria-pressed=${theme.value === name} onClick=${() => (theme.value = name)}>${t(`app.theme.${name}`)}</button>`)}
      </div>
    </section>
  `;
}

/** How loud tracks are made: the same choice as in the player's own options. */
function Sound() {
  return html`
    <section aria-labelledby="sound">
      <h2 id="sound">${t("player.loudness")}</h2>
      <p class="lead">${t("player.loudnessHint")}</p>
      <div class="choices" role="radiogroup" aria-labelledby="sound">
        ${MODES.map((name) => html`<label class="check" key=${name}>
          <input type="radio" name="settings-loudness" checked=${mode.value === name} onChange=${() => (mode.value = name)} />${t(`player.modes.${name}`)}</label>`)}
      </div>
    </section>
  `;
}

function About() {
  return html`
    <section aria-labelledby="about">
      <h2 id="about">${t("settings.more")}</h2>
      <p class="settings-links">
        <a class="button plain" href="/docs" target="_blank" rel="noopener"><${Icon} name="info" size=${18} />${t("settings.api")}</a>
        ${session.value === "in" && html`<button class="button plain" onClick=${() => signOut().catch(sayFault)}><${Icon} name="signOut" size=${18} />${t("session.signOut")}</button>`}
      </p>
    </section>
  `;
}
