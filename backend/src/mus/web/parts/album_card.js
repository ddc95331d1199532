// An album as its cover, with a button that plays it.
import { html } from "../html.js";
import { t } from "../text.js";
import { Link, at } from "../router.js";
import { wholeAlbum } from "./album_tracks.js";
import { Cover } from "./cover.js";
import { IconButton } from "./icon.js";
import { doing, playFrom } from "./track_actions.js";

/** `rest` are attributes of its list item; without an album it stands where one will be. */
export function AlbumCard({ album, lazy, ...rest }) {
  if (!album) return html`<div class="album-card waiting" role="listitem" ...${rest}><div class="cover"></div><i></i><i></i></div>`;
  const { id, title, album_artist: artist, year } = album;
  return html`
    <div class="album-card" role="listitem" ...${rest}>
      <${Link} class="to-album" href=${at("albums", id)} title=${title}>
        <${Cover} track=${album.cover_track_id} name=${title} lazy=${lazy} />
        <span class="title ellipsis">${title}</span>
      <//>
      <span class="by ellipsis">
        ${album.artist_id ? html`<${Link} href=${at("artists", album.artist_id)}>${artist}<//>` : artist}${year && html`<span class="year">${artist && " · "}${year}</span>`}
      </span>
      <${IconButton} class="play" icon="play" label=${t("library.playTitle", { title })}
        onClick=${doing(async () => playFrom((await wholeAlbum(at("albums", id))).items))} />
    </div>
  `;
}
