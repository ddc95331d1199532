// The page's beginning: what came last, and all albums as covers.
import { html } from "../html.js";
import { t } from "../text.js";
import { Link, route } from "../router.js";
import { useResource } from "../resource.js";
import { useWindows } from "../windows.js";
import { AlbumCard } from "../parts/album_card.js";
import { AlbumGrid } from "../parts/album_grid.js";
import { Empty, Fault } from "../parts/empty.js";
import { Filters, Order, clearFilters, filtersOf } from "../parts/filters.js";
import { FirstRun } from "./first_run.js";

const FILTERS = ["q", "genre", "year", "format", "library"];
const ORDERS = ["title", "album_artist", "-year", "year", "-added_at"];

export function Albums({ query }) {
  const wanted = filtersOf(query, FILTERS);
  const { list } = useWindows("/albums", { ...wanted, sort: query.sort ?? ORDERS[0] });
  const narrowed = Object.keys(wanted).length > 0;
  if (list.total === 0 && !narrowed) return html`<${FirstRun} title=${t("nav.albums")} of="albums" />`;
  const isHome = route.value.path === "/" && !narrowed && !query.sort;
  return html`
    ${isHome && html`<${Latest} />`}
    <div class="view-head">
      <h1>${t("nav.albums")}${list.total !== null && html` <span class="total">${t("library.albumCount", { count: list.total })}</span>`}</h1>
      <${Filters} names=${FILTERS}><${Order} orders=${ORDERS} /><//>
    </div>
    <${Content} list=${list} />
  `;
}

function Content({ list }) {
  if (list.total === null && list.error) return html`<${Fault} error=${list.error} retry=${list.again} />`;
  if (list.total === null) return html`<${Waiting} />`;
  if (list.total === 0)
    return html`<${Empty} icon="search" title=${t("library.noAlbums")} text=${t("library.noneFits")}>
      <button type="button" class="button" onClick=${() => clearFilters(FILTERS)}>${t("library.clear")}</button>
    <//>`;
  return html`<${AlbumGrid} list=${list} label=${t("nav.albums")} />`;
}

/** Grey squares where covers will be. */
export function Waiting({ count = 18 }) {
  return html`<div class="skeleton-grid" role="status" aria-label=${t("common.loading")}>${Array.from({ length: count }, (_, i) => html`<i key=${i} />`)}</div>`;
}

const LATEST = 14;

function Latest() {
  const { data } = useResource("/albums", { sort: "-added_at", limit: LATEST });
  // A small library has them all in sight below.
  if (data && data.items.length < LATEST) return null;
  return html`
    <section class="latest" aria-labelledby="latest">
      <header><h2 id="latest">${t("nav.recent")}</h2><${Link} href="/recent">${t("library.seeAll")}<//></header>
      <div class="shelf" role="list">
        ${(data?.items ?? Array.from({ length: LATEST }, () => null)).map((album, i) => html`<${AlbumCard} key=${album?.id ?? i} album=${album} />`)}
      </div>
    </section>
  `;
}
