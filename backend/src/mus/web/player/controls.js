// What the bar and the open player are made of.
import { html } from "../html.js";
import { t } from "../text.js";
import { Link, at } from "../router.js";
import { Icon, IconButton } from "../parts/icon.js";
import { muted, next, previous, setVolume, toggle, trouble, volume, waiting } from "./audio.js";
import { playing, repeat, shuffle, shuffled } from "./queue.js";

const REPEATS = ["off", "all", "one"];

/** Shuffle, back, play, on, repeat. */
export function Transport({ size = 20 }) {
  const sounds = playing.value;
  const turn = () => {
    repeat.value = REPEATS[(REPEATS.indexOf(repeat.value) + 1) % REPEATS.length];
  };
  return html`
    <div class="transport">
      <${IconButton} icon="shuffle" size=${size} label=${t("player.shuffle")} aria-pressed=${shuffled.value} onClick=${() => shuffle(!shuffled.value)} />
      <${IconButton} icon="previous" size=${size} label=${t("player.previous")} onClick=${previous} />
      <${PlayButton} size=${size} sounds=${sounds} />
      <${IconButton} icon="next" size=${size} label=${t("player.next")} onClick=${next} />
      <${IconButton} icon=${repeat.value === "one" ? "repeatOne" : "repeat"} size=${size} label=${t(`player.repeat.${repeat.value}`)}
        class=${repeat.value === "off" ? "" : "on"} onClick=${turn} />
    </div>
  `;
}

export function PlayButton({ size }) {
  const name = playing.value ? "pause" : "play";
  return html`<button type="button" class=${`play-button ${waiting.value || trouble.value ? "waits" : ""}`} aria-label=${t(`player.${name}`)}
    title=${t(`player.${name}`)} onClick=${toggle}><${Icon} name=${name} size=${size} /></button>`;
}

export function Volume() {
  const silent = muted.value || volume.value === 0;
  return html`
    <div class="volume">
      <${IconButton} icon=${silent ? "muted" : "volume"} label=${t(silent ? "player.unmute" : "player.mute")} onClick=${toggleMute} />
      <input type="range" min="0" max="1" step="0.02" aria-label=${t("player.volume")} value=${muted.value ? 0 : volume.value}
        onInput=${(event) => setVolume(Number(event.target.value))} />
    </div>
  `;
}

/** From a volume of nothing there is no other way back than some. */
export function toggleMute() {
  if (muted.value || volume.value > 0) muted.value = !muted.value;
  else setVolume(0.5);
}

/** The track's title, which leads to its album, and who made it; or what keeps it from playing. */
export function Names({ entry }) {
  const { title, artist, artist_id: artistId, album_id: albumId } = entry;
  return html`
    <div class="names">
      ${albumId ? html`<${Link} class="title ellipsis" href=${at("albums", albumId)}>${title}<//>` : html`<span class="title ellipsis">${title}</span>`}
      ${trouble.value
        ? html`<span class="trouble ellipsis" title=${trouble.value}>${trouble.value}</span>`
        : artist && (artistId ? html`<${Link} class="artist ellipsis" href=${at("artists", artistId)}>${artist}<//>` : html`<span class="artist ellipsis">${artist}</span>`)}
    </div>
  `;
}
