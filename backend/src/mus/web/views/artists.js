// Everybody who made the music, as a grid of round pictures.
import { useRef } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { Link, at } from "../router.js";
import { useWindows } from "../windows.js";
import { Cover } from "../parts/cover.js";
import { Empty, Fault } from "../parts/empty.js";
import { Filters, Order, clearFilters, filtersOf } from "../parts/filters.js";
import { VirtualList } from "../parts/virtual_list.js";
import { useWidth } from "../parts/width.js";
import { FirstRun } from "./first_run.js";
import { Waiting } from "./albums.js";

const FILTERS = ["q", "library"];
const ORDERS = ["name", "-name"];
const ROW = 88;
/** Pixels that one artist needs beside others. */
const WIDTH = 270;

export function Artists({ query }) {
  const wanted = filtersOf(query, FILTERS);
  const { list } = useWindows("/artists", { ...wanted, sort: query.sort ?? ORDERS[0] });
  const narrowed = Object.keys(wanted).length > 0;
  if (list.total === 0 && !narrowed) return html`<${FirstRun} title=${t("nav.artists")} of="artists" />`;
  return html`
    <div class="view-head">
      <h1>${t("nav.artists")}${list.total !== null && html` <span class="total">${t("library.artistCount", { count: list.total })}</span>`}</h1>
      <${Filters} names=${FILTERS}><${Order} orders=${ORDERS} /><//>
    </div>
    ${list.total === null && list.error
      ? html`<${Fault} error=${list.error} retry=${list.again} />`
      : list.total === null
        ? html`<${Waiting} />`
        : list.total === 0
          ? html`<${Empty} icon="search" title=${t("library.noArtists")} text=${t("library.noneFits")}>
              <button type="button" class="button" onClick=${() => clearFilters(FILTERS)}>${t("library.clear")}</button>
            <//>`
          : html`<${ArtistGrid} list=${list} />`}
  `;
}

function ArtistGrid({ list }) {
  const place = useRef(null);
  const width = useWidth(place);
  const columns = Math.max(1, Math.floor(width / WIDTH));
  return html`<div class="artist-grid" ref=${place} style=${{ "--columns": columns }}>
    ${width > 0 && html`<${VirtualList} count=${list.total} rowHeight=${ROW} columns=${columns} onRange=${list.show}
      role="list" aria-label=${t("nav.artists")} render=${(index) => html`<div class="artist-cell" role="listitem" key=${index}
        aria-posinset=${index + 1} aria-setsize=${list.total}><${ArtistCard} artist=${list.at(index)} /></div>`} />`}
  </div>`;
}

/** Without an artist it stands where one will be. */
export function ArtistCard({ artist }) {
  if (!artist) return html`<div class="artist-card waiting"><div class="cover"></div><i></i></div>`;
  return html`<${Link} class="artist-card" href=${at("artists", artist.id)}>
    <${Cover} track=${artist.cover_track_id} name=${artist.name} icon="artists" />
    <span class="names"><span class="title ellipsis">${artist.name}</span>
    <span class="muted ellipsis">${t("library.albumCount", { count: artist.albums })} · ${t("library.count", { count: artist.tracks })}</span></span>
  <//>`;
}
