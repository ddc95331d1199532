// The player: a bar that stays while one looks around. On a phone it is small, and opens.
import { useEffect } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { Link } from "../router.js";
import { Cover } from "../parts/cover.js";
import { Icon, IconButton } from "../parts/icon.js";
import { length, next, time } from "./audio.js";
import { Names, PlayButton, Transport, Volume } from "./controls.js";
import { listenToKeys } from "./keys.js";
import { announcement } from "./media_session.js";
import { OpenPlayer, openPlayer, opened } from "./open_player.js";
import { Options, optionsShown } from "./options.js";
import { current } from "./queue.js";
import { SeekBar } from "./seek_bar.js";

const BARS = 180;

export function PlayerBar() {
  useEffect(listenToKeys, []);
  const entry = current.value;
  return html`
    <section class="player" aria-label=${t("player.title")} hidden=${!entry}>
      ${entry && html`<${Bar} entry=${entry} />`}
    </section>
    <${Announcement} />
    ${entry && opened.value && html`<${OpenPlayer} entry=${entry}><${Announcement} /><//>`}
    ${optionsShown.value && html`<${Options} />`}
  `;
}

function Bar({ entry }) {
  return html`
    <div class="now">
      <button type="button" class="cover-button" aria-label=${t("player.open")} title=${t("player.open")} onClick=${openPlayer}>
        <${Cover} track=${entry.has_cover ? entry.id : null} name=${entry.album ?? entry.title} />
        <span class="hint"><${Icon} name="up" /></span>
      </button>
      <${Names} entry=${entry} />
      <div class="small-controls">
        <${PlayButton} size=${22} />
        <${IconButton} icon="next" label=${t("player.next")} onClick=${next} />
      </div>
    </div>
    <div class="middle">
      <${Transport} />
      <${SeekBar} count=${BARS} />
    </div>
    <div class="side">
      <${Volume} />
      <${Link} class="icon-button" href="/queue" aria-label=${t("player.queue")} title=${t("player.queue")}><${Icon} name="queue" /><//>
      <${IconButton} icon="sound" label=${t("player.options")} onClick=${() => (optionsShown.value = true)} />
    </div>
    <${Line} />
  `;
}

/** How far it is, along the edge of a bar that has no room for more. */
function Line() {
  return html`<div class="line" aria-hidden="true"><i style=${{ "--part": length.value ? Math.min(1, time.value / length.value) : 0 }} /></div>`;
}

/** It is there before it says something, and in the dialog too: what lies behind one is silent. */
function Announcement() {
  return html`<div class="visually-hidden announcement" role="status">${announcement.value}</div>`;
}
