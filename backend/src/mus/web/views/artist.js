// An artist: the albums, and everything to play.
import { html } from "../html.js";
import { t } from "../text.js";
import { queryString } from "../api.js";
import { Link, at, navigate } from "../router.js";
import { useResource } from "../resource.js";
import { useWindows } from "../windows.js";
import { scan } from "../care/actions.js";
import { AlbumGrid } from "../parts/album_grid.js";
import { tracksOfArtist } from "../parts/album_tracks.js";
import { Cover } from "../parts/cover.js";
import { Empty, Fault } from "../parts/empty.js";
import { Icon } from "../parts/icon.js";
import { Menu } from "../parts/menu.js";
import { doing, enqueueTracks, playFrom, playTracksNext, shuffleTracks } from "../parts/track_actions.js";
import { Waiting } from "./albums.js";

export function Artist({ id }) {
  const { data: artist, error } = useResource(at("artists", id), { limit: 1 });
  const { list } = useWindows("/albums", { artist: id, sort: "-year" });
  if (!artist && error?.status === 404)
    return html`<h1>${t("library.artist")}</h1><${Empty} icon="artists" title=${t("library.artistGone")} text=${t("library.artistGoneText")}>
      <${Link} class="button" href="/artists">${t("nav.artists")}<//>
    <//>`;
  if (!artist && error) return html`<h1>${t("library.artist")}</h1><${Fault} error=${error} />`;
  if (!artist) return html`<div class="hero artist"><div class="cover waiting"></div><h1>${t("library.artist")}</h1></div><${Waiting} />`;
  const run = (action) => doing(async () => action(await tracksOfArtist(artist.name)));
  return html`
    <article>
      <header class="hero artist">
        <${Cover} track=${artist.cover_track_id} name=${artist.name} icon="artists" size=${1000} lazy=${false} />
        <div>
          <p class="kind">${t("library.artist")}</p>
          <h1 title=${artist.name}>${artist.name}</h1>
          <p class="muted album-facts">
            <span>${t("library.albumCount", { count: artist.albums })}</span>
            <${Link} href=${`/tracks${queryString({ artist: artist.name, sort: "album" })}`}>${t("library.count", { count: artist.tracks })}<//>
          </p>
          <div class="actions">
            <button type="button" class="button" onClick=${run((found) => playFrom(found))}><${Icon} name="play" /> ${t("library.play")}</button>
            <button type="button" class="button plain" onClick=${run(shuffleTracks)}><${Icon} name="shuffle" /> ${t("library.shuffle")}</button>
            <${Menu} label=${t("library.more", { title: artist.name })} items=${[
              { label: t("library.playNext"), icon: "queue", run: run(playTracksNext) },
              { label: t("library.enqueue"), icon: "add", run: run(enqueueTracks) },
              { label: t("library.edit"), icon: "edit", run: () => navigate(`/edit${queryString({ artist: id })}`) },
              { label: t("library.scanArtist"), icon: "scan", run: () => scan({ artist: artist.name }) },
            ]} />
          </div>
        </div>
      </header>
      ${list.total > 0 && html`<section><h2>${t("nav.albums")}</h2><${AlbumGrid} list=${list} label=${t("nav.albums")} /></section>`}
    </article>
  `;
}
