// The tracks of an album, or those that a search has found: few enough to be there all at once.
import { html } from "../html.js";
import { t } from "../text.js";
import { duration } from "../format.js";
import { current } from "../player/queue.js";
import { Cover } from "./cover.js";
import { Icon } from "./icon.js";
import { AlbumLink, ArtistLink } from "./links.js";
import { Menu } from "./menu.js";
import { playFrom, trackItems } from "./track_actions.js";
import { TrackState, isGone } from "./track_state.js";

/**
 * `numbers` shows their places on the album in front, else their covers; `artist` is whose name need not be repeated.
 * `all` is what goes on playing, these by default.
 */
export function TrackList({ tracks, all = tracks, numbers = false, artist = null, label }) {
  return html`<ol class="track-list" aria-label=${label}>
    ${tracks.map((track) => html`<${Row} key=${track.id} track=${track} numbers=${numbers}
      artist=${track.artist === artist ? null : track.artist} start=${() => playFrom(all, all.indexOf(track))} />`)}
  </ol>`;
}

function Row({ track, numbers, artist, start }) {
  const isCurrent = current.value?.id === track.id;
  const gone = isGone(track);
  return html`
    <li class=${`track-line ${isCurrent ? "current" : ""} ${gone ? "gone" : ""}`} aria-current=${isCurrent ? "true" : undefined}>
      ${numbers
        ? html`<span class="place" aria-hidden="true">${isCurrent ? html`<${Icon} name="volume" size=${16} />` : track.track_number}</span>`
        : html`<${Cover} track=${track.has_cover ? track.id : null} name=${track.album ?? track.title} />`}
      <div class="names">
        <button type="button" class="title" disabled=${gone} onClick=${start} aria-label=${t("library.playTitle", { title: track.title })}>
          <span class="ellipsis">${track.title}</span>
        </button>
        ${(artist || !numbers) && html`<p class="muted ellipsis">
          <${ArtistLink} id=${track.artist_id} name=${artist ?? track.artist} />
          ${!numbers && track.album && html`${track.artist && " · "}<${AlbumLink} id=${track.album_id} title=${track.album} />`}
        </p>`}
      </div>
      <${TrackState} track=${track} />
      <span class="muted length">${duration(track.duration)}</span>
      <${Menu} label=${t("library.more", { title: track.title })} items=${() => trackItems(track)} />
    </li>
  `;
}
