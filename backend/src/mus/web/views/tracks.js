// All tracks, and in front of them what is known of one.
import { useMemo } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { useWindows } from "../windows.js";
import { Empty, Fault, Skeleton } from "../parts/empty.js";
import { Filters, clearFilters, filtersOf } from "../parts/filters.js";
import { Icon } from "../parts/icon.js";
import { doing, shuffleTracks } from "../parts/track_actions.js";
import { FirstRun } from "./first_run.js";
import { Selection, SelectionBar } from "./selection.js";
import { TrackDetails } from "./track_details.js";
import { TrackTable, playList } from "./track_table.js";

const FILTERS = ["q", "artist", "album", "format", "year_from", "year_to", "genre", "status", "library"];
/** So many of a long list are played in no order. */
const MIXED = 500;

export function Tracks({ id, query }) {
  const wanted = filtersOf(query, FILTERS);
  const sort = query.sort ?? "title";
  const { list, loading } = useWindows("/tracks", { ...wanted, sort });
  const selection = useMemo(() => new Selection(), []);
  const narrowed = Object.keys(wanted).length > 0;
  if (list.total === 0 && !narrowed && !id) return html`<${FirstRun} title=${t("nav.tracks")} of="tracks" />`;
  return html`
    <div class="view-head">
      <h1>${t("nav.tracks")}${list.total !== null && html` <span class="total" role="status">${t("library.count", { count: list.total })}</span>`}</h1>
      ${list.total > 0 && html`
        <button type="button" class="button" onClick=${doing(() => playList(list, 0))}><${Icon} name="play" /> ${t("library.play")}</button>
        <button type="button" class="button plain" onClick=${doing(async () => shuffleTracks(await list.sample(MIXED)))}><${Icon} name="shuffle" /> ${t("library.shuffle")}</button>`}
    </div>
    <${Filters} names=${FILTERS} />
    ${list.total === null && list.error
      ? html`<${Fault} error=${list.error} retry=${list.again} />`
      : list.total === null
        ? html`<${Skeleton} rows=${14} />`
        : list.total === 0
          ? html`<${Empty} icon="search" title=${t("library.noTracks")} text=${t("library.noneFits")}>
              <button type="button" class="button" onClick=${() => clearFilters(FILTERS)}>${t("library.clear")}</button>
            <//>`
          : html`<div class=${loading ? "is-stale" : ""}><${TrackTable} list=${list} sort=${sort} selection=${selection} label=${t("nav.tracks")} /></div>`}
    <${SelectionBar} selection=${selection} />
    ${id && html`<${TrackDetails} key=${id} id=${id} />`}
  `;
}
