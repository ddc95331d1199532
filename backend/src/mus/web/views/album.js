// An album: its cover, what is known of it, and its tracks by disc.
import { html } from "../html.js";
import { apart, t } from "../text.js";
import { bytes, date, span } from "../format.js";
import { Link, at, navigate } from "../router.js";
import { queryString } from "../api.js";
import { useResource } from "../resource.js";
import { scan, trashTracks } from "../care/actions.js";
import { partsOf, wholeAlbum } from "../parts/album_tracks.js";
import { Cover } from "../parts/cover.js";
import { Empty, Fault, Skeleton } from "../parts/empty.js";
import { Icon } from "../parts/icon.js";
import { ArtistLink } from "../parts/links.js";
import { Menu } from "../parts/menu.js";
import { commonFolder, enqueueTracks, playFrom, playTracksNext, playable, shuffleTracks } from "../parts/track_actions.js";
import { TrackList } from "../parts/track_list.js";

export function Album({ id }) {
  const { data: album, error } = useResource(at("albums", id), undefined, { read: wholeAlbum });
  if (!album && error?.status === 404)
    return html`<h1>${t("library.album")}</h1><${Empty} icon="albums" title=${t("library.albumGone")} text=${t("library.albumGoneText")}>
      <${Link} class="button" href="/albums">${t("app.home")}<//>
    <//>`;
  if (!album && error) return html`<h1>${t("library.album")}</h1><${Fault} error=${error} />`;
  if (!album)
    return html`<div class="hero"><div class="cover waiting"></div><div><h1>${t("library.album")}</h1><${Skeleton} rows=${3} /></div></div><${Skeleton} />`;
  const tracks = album.items;
  return html`
    <article class="album">
      <header class="hero">
        <${Cover} track=${album.cover_track_id} name=${album.title} size=${1000} lazy=${false} />
        <div>
          <p class="kind">${t("library.album")}</p>
          <h1 title=${album.title}>${album.title}</h1>
          <p class="by"><${ArtistLink} id=${album.artist_id} name=${album.album_artist} /></p>
          <p class="muted album-facts">${factsOf(album).map((fact) => html`<span key=${fact}>${fact}</span>`)}</p>
          <div class="actions">
            <button type="button" class="button" onClick=${() => playFrom(tracks)}><${Icon} name="play" /> ${t("library.play")}</button>
            <button type="button" class="button plain" onClick=${() => shuffleTracks(tracks)}><${Icon} name="shuffle" /> ${t("library.shuffle")}</button>
            <${Menu} label=${t("library.more", { title: album.title })} items=${() => itemsOf(album)} />
          </div>
        </div>
      </header>
      <${Discs} album=${album} />
      ${album.next_cursor && html`<p class="list-rest">
        <${Link} class="button plain" href=${`/tracks${queryString({ album: album.title, artist: album.album_artist, library: album.library, sort: "path" })}`}>${t("library.allTracks", { count: album.tracks })}<//>
      </p>`}
    </article>
  `;
}

function Discs({ album }) {
  const parts = partsOf(album.items);
  const hasDiscs = new Set(parts.map(({ disc }) => disc)).size > 1;
  return parts.map(({ disc, folder, tracks }) => {
    const title = [hasDiscs && t("library.disc", { number: disc }), folder?.split("/").at(-2)].filter(Boolean).join(" · ");
    return html`<section key=${`${disc} ${folder}`} class="disc">
      ${title && html`<h2>${title}</h2>`}
      <${TrackList} tracks=${tracks} all=${album.items} numbers artist=${album.album_artist} label=${title || t("nav.tracks")} />
    </section>`;
  });
}

function factsOf({ year, tracks, duration, items, next_cursor: more, added_at: added, library }) {
  const each = (field) => [...new Set(items.map((track) => track[field]).filter(Boolean))];
  return [
    year,
    each("genre").slice(0, 3).map(apart).join(", "),
    t("library.count", { count: tracks }),
    duration > 0 && span(duration),
    each("format").map((format) => format.toUpperCase()).join(", "),
    !more && bytes(items.reduce((sum, track) => sum + track.size, 0)),
    t("library.added", { date: date(added) }),
    library,
  ].filter(Boolean);
}

function itemsOf(album) {
  const { id, library, items } = album;
  return [
    { label: t("library.playNext"), icon: "queue", run: () => playTracksNext(items) },
    { label: t("library.enqueue"), icon: "add", run: () => enqueueTracks(items) },
    { label: t("library.edit"), icon: "edit", run: () => navigate(`/edit${queryString({ album: id })}`) },
    { label: t("library.scanAlbum"), icon: "scan", run: () => scan({ library, path: commonFolder(items) }) },
    { label: t("library.trash"), icon: "trash", run: () => trashTracks(playable(items)) },
  ];
}
