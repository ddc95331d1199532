// Tracks as a table of any length: sorted by its headers, used with the mouse as a list of files is, or with the keys.
import { useEffect, useRef } from "preact/hooks";
import { html } from "../html.js";
import { beside, t } from "../text.js";
import { date, duration } from "../format.js";
import { navigate, setQuery } from "../router.js";
import { current, enqueue, queue } from "../player/queue.js";
import { Icon, IconButton } from "../parts/icon.js";
import { AlbumLink, ArtistLink } from "../parts/links.js";
import { isPhone } from "../parts/media.js";
import { Menu } from "../parts/menu.js";
import { sayFault } from "../parts/toast.js";
import { detailsAddress, doing, playFrom, playable, trackItems } from "../parts/track_actions.js";
import { TrackState, isGone } from "../parts/track_state.js";
import { VirtualList } from "../parts/virtual_list.js";
import { trashTracks } from "../care/actions.js";

/** Columns by their names, with the field that the API sorts them by. */
const COLUMNS = { title: "title", artist: "artist", album: "album", year: "year", format: null, length: "duration", added: "added_at" };
/** What is sought first in these is the latest, or the longest. */
const LATEST_FIRST = new Set(["year", "duration", "added_at"]);
/** Pixels; style/library.css has the same. */
const [ROW, PHONE_ROW, HEAD] = [44, 60, 38];
/** Rows that are kept as they were drawn. */
const DRAWN = 500;
/** Most tracks that one row plays on to. */
const PLAYED = 1_000;

/** Play a list from the row at `index`: at once what is known of it, then what follows. */
export async function playList(list, index) {
  const known = [];
  while (known.length < PLAYED && list.at(index + known.length)) known.push(list.at(index + known.length));
  playFrom(known, 0);
  const played = queue.value;
  const rest = await list.rows(index + known.length, PLAYED - known.length);
  if (queue.value === played && rest.length) enqueue(playable(rest));
}

export function TrackTable({ list, sort, selection, label }) {
  const grid = useRef(null);
  const drawn = useRef(new Map());
  const rowHeight = isPhone.value ? PHONE_ROW : ROW;
  const active = selection.active.value;
  const playing = current.value?.id;
  const range = useRef([0, 0]);
  /** Say which row the keys are at, while it exists. */
  const point = () => {
    const row = rowAt(selection.active.value);
    if (row) grid.current.setAttribute("aria-activedescendant", row.id);
    else grid.current.removeAttribute("aria-activedescendant");
  };
  useEffect(point);
  const show = (first, last) => {
    range.current = [first, last];
    list.show(first, last);
    point();
  };
  const showing = useRef(show);
  showing.current = show;
  const onRange = useRef((first, last) => showing.current(first, last)).current;
  useEffect(() => list.show(...range.current), [list]);

  // A row that is as it was is not drawn again: scrolling moves hundreds of them.
  if (drawn.current.size > DRAWN) drawn.current.clear();
  const render = (index) => {
    const track = list.at(index);
    const looks = [track, list, selection.has(track), index === active, track !== null && track.id === playing];
    const known = drawn.current.get(index);
    const same = known && looks.every((look, i) => look === known.looks[i]);
    const entry = same ? known : { looks, row: html`<${Row} key=${index} index=${index} track=${track} chosen=${looks[2]} active=${looks[3]} playing=${looks[4]} />` };
    drawn.current.set(index, entry);
    return entry.row;
  };

  const reveal = (index) => {
    const [rows, main] = [grid.current.querySelector(".virtual"), grid.current.closest(".main")];
    const top = rows.getBoundingClientRect().top - main.getBoundingClientRect().top + main.scrollTop + index * rowHeight;
    if (top - HEAD < main.scrollTop) main.scrollTop = top - HEAD;
    else if (top + rowHeight > main.scrollTop + main.clientHeight) main.scrollTop = top + rowHeight - main.clientHeight;
  };
  const go = (index, extend) => {
    const to = Math.max(0, Math.min(list.total - 1, index));
    reveal(to);
    if (extend) selection.range(list, to).catch(sayFault);
    else selection.active.value = to;
  };
  const onKeyDown = (event) => {
    if (event.target !== grid.current) return;
    const page = Math.max(1, Math.floor((grid.current.closest(".main").clientHeight - HEAD) / rowHeight) - 1);
    const here = Math.max(0, active);
    const to = { ArrowDown: active + 1, ArrowUp: here - 1, PageDown: here + page, PageUp: here - page, Home: 0, End: list.total - 1 }[event.key];
    const track = list.at(here);
    const control = event.ctrlKey || event.metaKey;
    if (to !== undefined) go(to, event.shiftKey);
    else if (event.key === " " && event.shiftKey) selection.range(list, here).catch(sayFault);
    else if (event.key === " ") selection.toggle(list, here);
    else if (event.key === "Enter" && event.altKey && track) navigate(detailsAddress(track));
    else if (event.key === "Enter") playList(list, here).catch(sayFault);
    else if (event.key === "a" && control) selection.all(list).catch(sayFault);
    else if (event.key === "Escape" && selection.tracks.value.size) selection.clear();
    else if (event.key === "Delete") doing(() => trash(here))();
    else if (event.key === "ContextMenu" || (event.key === "F10" && event.shiftKey)) rowAt(here)?.querySelector(".menu button").click();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  /** Those that are chosen; with none, the row at `index`, which may still be on its way. */
  const trash = async (index) => {
    const chosen = [...selection.tracks.value.values()];
    const tracks = playable(chosen.length ? chosen : await list.rows(index, 1));
    if (tracks.length && (await trashTracks(tracks))) selection.clear();
  };
  const rowAt = (index) => grid.current.querySelector(`[data-index="${index}"]`);
  const indexOf = (event) => (event.target.closest("a, button") ? NaN : Number(event.target.closest("[data-index]")?.dataset.index ?? NaN));
  const onClick = (event) => {
    const index = indexOf(event);
    if (Number.isNaN(index)) return;
    if (event.shiftKey) selection.range(list, index).catch(sayFault);
    else if (event.ctrlKey || event.metaKey || event.target.closest(".pick")) selection.toggle(list, index);
    else if (!matchMedia("(hover: none)").matches) selection.only(list, index);
    // A finger has no second button and no double click: it plays, or goes on choosing.
    else if (selection.tracks.value.size) selection.toggle(list, index);
    else playList(list, index).catch(sayFault);
  };
  const onDblClick = (event) => {
    const index = indexOf(event);
    if (!Number.isNaN(index) && !event.target.closest(".pick")) playList(list, index).catch(sayFault);
  };
  const onFocus = (event) => {
    if (event.target === grid.current && active < 0) selection.active.value = Math.max(0, firstInSight());
  };
  const firstInSight = () => {
    const rows = grid.current.querySelector(".virtual");
    return Math.ceil((grid.current.closest(".main").getBoundingClientRect().top - rows.getBoundingClientRect().top) / rowHeight);
  };
  return html`
    <div class="track-table" role="grid" tabindex="0" ref=${grid} aria-label=${label} aria-multiselectable="true" aria-rowcount=${list.total + 1}
      aria-colcount=${Object.keys(COLUMNS).length + 2}
      onKeyDown=${onKeyDown} onClick=${onClick} onDblClick=${onDblClick} onFocus=${onFocus}>
      <${Head} sort=${sort} selection=${selection} list=${list} />
      <${VirtualList} count=${list.total} rowHeight=${rowHeight} render=${render} onRange=${onRange} role="rowgroup" />
    </div>
  `;
}

const rowId = (index) => `row-${index}`;

function Head({ sort, selection, list }) {
  const size = selection.tracks.value.size;
  const all = size > 0 && size >= Math.min(list.total, PLAYED);
  return html`<div class="head" role="rowgroup"><div class="track-row" role="row" aria-rowindex="1">
    <span role="columnheader" class="pick"><${IconButton} icon="check" size=${16} label=${t(all ? "library.chooseNone" : "library.chooseAll")}
      aria-pressed=${all} onClick=${all ? selection.clear : () => selection.all(list).catch(sayFault)} /></span>
    ${Object.entries(COLUMNS).map(([name, field]) => html`<${Header} key=${name} name=${name} field=${field} sort=${sort} />`)}
    <span role="columnheader" class="dots"><span class="visually-hidden">${t("library.actions")}</span></span>
  </div></div>`;
}

function Header({ name, field, sort }) {
  const text = t(`library.columns.${name}`);
  if (!field) return html`<span role="columnheader" class=${name}>${text}</span>`;
  const direction = sort === field ? "ascending" : sort === `-${field}` ? "descending" : "none";
  const other = direction === "none" ? LATEST_FIRST.has(field) : direction === "ascending";
  const choose = () => setQuery({ sort: other ? `-${field}` : field === "title" ? null : field });
  return html`<span role="columnheader" class=${name} aria-sort=${direction}>
    <button type="button" onClick=${choose}>${text}${direction !== "none" && html`<${Icon} name=${direction === "ascending" ? "up" : "down"} size=${14} />`}</button>
  </span>`;
}

function Row({ index, track, chosen, active, playing }) {
  const attributes = { id: rowId(index), role: "row", "aria-rowindex": index + 2, "data-index": index };
  if (!track) return html`<div class=${active ? "track-row waiting active" : "track-row waiting"} ...${attributes} aria-busy="true">
    <span role="gridcell"></span>${[1, 2, 3].map((cell) => html`<i role="gridcell" key=${cell}></i>`)}
  </div>`;
  const tabindex = active ? 0 : -1;
  const name = `track-row ${chosen ? "chosen" : ""} ${active ? "active" : ""} ${playing ? "current" : ""} ${isGone(track) ? "gone" : ""}`;
  return html`<div class=${name} ...${attributes} aria-selected=${chosen} aria-current=${playing ? "true" : undefined}>
    <span role="gridcell" class="pick"><i><${Icon} name=${playing && !chosen ? "volume" : "check"} size=${14} /></i></span>
    <span role="gridcell" class="title"><span class="ellipsis" title=${track.title}>${track.title}</span><${TrackState} track=${track} />
      <span class="sub muted ellipsis">${beside(track.artist, track.album)}</span></span>
    <span role="gridcell" class="artist"><${ArtistLink} id=${track.artist_id} name=${track.artist} tabindex=${tabindex} /></span>
    <span role="gridcell" class="album"><${AlbumLink} id=${track.album_id} title=${track.album} tabindex=${tabindex} /></span>
    <span role="gridcell" class="year">${track.year}</span>
    <span role="gridcell" class="format">${track.format?.toUpperCase()}</span>
    <span role="gridcell" class="length">${duration(track.duration)}</span>
    <span role="gridcell" class="added">${date(track.added_at)}</span>
    <span role="gridcell" class="dots"><${Menu} label=${t("library.more", { title: track.title })} items=${() => trackItems(track)} tabindex=${tabindex} /></span>
  </div>`;
}
