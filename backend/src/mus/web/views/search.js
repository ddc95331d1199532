// Search as you type, over artists, albums and tracks at once.
import { useEffect, useState } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { queryString } from "../api.js";
import { Link } from "../router.js";
import { useResource } from "../resource.js";
import { AlbumCard } from "../parts/album_card.js";
import { Empty, Fault, Skeleton } from "../parts/empty.js";
import { TrackList } from "../parts/track_list.js";
import { ArtistCard } from "./artists.js";

/** How long the hand must rest before mus is asked. */
const REST_MS = 150;
const MOST = { artists: 6, albums: 12, tracks: 20 };

export function Search({ query }) {
  const typed = (query.q ?? "").trim();
  const q = useRested(typed);
  // What is answered too late is never shown: each word that changes aborts the requests for those before.
  const ask = (name) => useResource(q ? `/${name}` : null, { q, limit: MOST[name] });
  const [artists, albums, tracks] = [ask("artists"), ask("albums"), ask("tracks")];
  const all = [artists, albums, tracks];
  const error = all.find((each) => each.error)?.error;
  const waiting = typed !== q || all.some((each) => each.loading);
  const found = all.reduce((sum, { data }) => sum + (data?.items.length ?? 0), 0);
  return html`
    <h1>${q ? t("library.resultsFor", { q }) : t("nav.search")}</h1>
    <p class="visually-hidden" role="status">${q && !waiting ? t("library.found", { count: found }) : ""}</p>
    ${!q
      ? html`<${Empty} icon="search" title=${t("library.searchTitle")} text=${t("library.searchText")} />`
      : error && !found
        ? html`<${Fault} error=${error} />`
        : found === 0
          ? waiting
            ? html`<${Skeleton} />`
            : html`<${Nothing} q=${q} />`
          : html`<div class=${waiting ? "is-stale" : ""} aria-busy=${waiting}>
              <${Part} name="artists" q=${q} data=${artists.data}>
                <ul class="artist-row">${artists.data?.items.map((artist) => html`<li key=${artist.id}><${ArtistCard} artist=${artist} /></li>`)}</ul>
              <//>
              <${Part} name="albums" q=${q} data=${albums.data}>
                <div class="album-covers" role="list">${albums.data?.items.map((album) => html`<${AlbumCard} key=${album.id} album=${album} />`)}</div>
              <//>
              <${Part} name="tracks" q=${q} data=${tracks.data}>
                <${TrackList} tracks=${tracks.data?.items ?? []} label=${t("nav.tracks")} />
              <//>
            </div>`}
  `;
}

function Part({ name, q, data, children }) {
  if (!data?.items.length) return null;
  return html`
    <section aria-labelledby=${`found-${name}`}>
      <header><h2 id=${`found-${name}`}>${t(`nav.${name}`)}</h2>
        ${data.next_cursor && html`<${Link} href=${`/${name}${queryString({ q })}`}>${t("library.seeAll")}<//>`}</header>
      ${children}
    </section>
  `;
}

function Nothing({ q }) {
  return html`<${Empty} icon="search" title=${t("library.nothingFound", { q })} text=${t("library.nothingFoundText")}>
    <${Link} class="button plain" href="/albums">${t("library.allAlbums")}<//>
    <${Link} class="button plain" href="/upload">${t("nav.upload")}<//>
  <//>`;
}

/** The value once it has stayed for a moment; an empty one at once. */
function useRested(value) {
  const [rested, setRested] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setRested(value), value ? REST_MS : 0);
    return () => clearTimeout(timer);
  }, [value]);
  return rested;
}
