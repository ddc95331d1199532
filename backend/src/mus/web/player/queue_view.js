// What comes: another order by drag or keys, out with one or all, and straight to any.
import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { duration } from "../format.js";
import { Link } from "../router.js";
import { Cover } from "../parts/cover.js";
import { Empty } from "../parts/empty.js";
import { Icon, IconButton } from "../parts/icon.js";
import { say } from "../parts/toast.js";
import { VirtualList } from "../parts/virtual_list.js";
import { time } from "./audio.js";
import { useDrag } from "./drag.js";
import { clear, current, failed, jump, move, playing, position, queue, remove } from "./queue.js";

/** Pixels; the same in style/player.css. */
const ROW = 60;

export function Queue() {
  const entries = queue.value;
  if (!entries.length)
    return html`
      <h1>${t("player.queue")}</h1>
      <${Empty} icon="queue" title=${t("queue.emptyTitle")} text=${t("queue.empty")}><${Link} class="button" href="/albums">${t("queue.browse")}<//><//>
    `;
  return html`
    <div class="view-head">
      <h1>${t("player.queue")}</h1>
      <${Summary} />
      <button type="button" class="button plain" onClick=${empty}><${Icon} name="close" size=${16} /> ${t("queue.clear")}</button>
    </div>
    <${List} entries=${entries} />
  `;
}

function Summary() {
  const entries = queue.value;
  const left = entries.slice(position.value).reduce((sum, entry) => sum + (entry.duration ?? 0), 0) - time.value;
  return html`<p class="muted queue-summary">${t("queue.summary", { count: entries.length })} · ${t("queue.left", { length: duration(left) })}</p>`;
}

function empty() {
  const bringBack = clear();
  say(t("queue.cleared"), { action: { label: t("common.undo"), run: bringBack } });
}

function List({ entries }) {
  const place = useRef(null);
  const [spoken, setSpoken] = useState("");
  /** The row that Tab leads to: its key, and what in it has the focus. */
  const [at, setAt] = useState(current.value?.key);
  const focus = useRef(null);
  const drag = useDrag({ rowHeight: ROW, count: entries.length, drop: (from, to) => from !== to && put(from, to) });
  const reachable = entries.some((entry) => entry.key === at) ? at : entries[0].key;

  const rowOf = (key) => place.current.querySelector(`[data-key="${key}"]`);
  const show = (index) => {
    const main = place.current.closest(".main");
    const top = place.current.getBoundingClientRect().top - main.getBoundingClientRect().top + index * ROW;
    if (top < 0 || top > main.clientHeight - ROW) main.scrollTop += top - main.clientHeight / 2;
  };
  useEffect(() => {
    // Where one is in a long list, unless the browser's way back led here.
    if (!place.current.closest(".main").scrollTop) show(Math.max(0, position.value));
  }, []);
  // A row that is moved, or not drawn yet, takes the focus once it is there.
  useEffect(() => {
    if (!focus.current) return;
    const wanted = rowOf(focus.current.key)?.querySelector(focus.current.part);
    if (!wanted) return;
    if (document.activeElement !== wanted) wanted.focus({ preventScroll: true });
    focus.current = null;
  });
  const go = (index, part) => {
    const { key } = entries[index];
    focus.current = { key, part };
    setAt(key);
    show(index);
    rowOf(key)?.querySelector(part).focus({ preventScroll: true });
  };

  function put(from, to) {
    const { key, title } = entries[from];
    move(from, to);
    focus.current = { key, part: ".grip" };
    setAt(key);
    show(to);
    setSpoken(t("queue.moved", { title, place: to + 1, count: entries.length }));
  }
  function takeOut(index) {
    const { title } = entries[index];
    const neighbour = entries[index + 1] ?? entries[index - 1];
    if (neighbour) focus.current = { key: neighbour.key, part: ".remove" };
    setAt(neighbour?.key);
    setSpoken(t("queue.removed", { title }));
    remove(index);
  }
  const onKeyDown = (event, index) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    const last = entries.length - 1;
    const to = { ArrowUp: index - 1, ArrowDown: index + 1, Home: 0, End: last }[event.key];
    const onGrip = event.target.closest(".grip");
    if (event.key === "Delete") takeOut(index);
    else if (to === undefined || (event.altKey && !event.key.startsWith("Arrow"))) return;
    else if (to < 0 || to > last) return event.preventDefault();
    else if (event.altKey || onGrip) put(index, to);
    else go(to, event.target.closest(".remove") ? ".remove" : ".start");
    event.preventDefault();
  };
  const render = (index) => {
    const entry = entries[index];
    return html`<${Row} key=${entry.key} entry=${entry} index=${index} count=${entries.length} isCurrent=${index === position.value}
      reachable=${entry.key === reachable} drag=${drag} onKeyDown=${onKeyDown} takeOut=${takeOut} onFocus=${() => setAt(entry.key)} />`;
  };
  return html`
    <div ref=${place} class=${`queue ${drag.from === null ? "" : "dragging"}`}>
      <${VirtualList} count=${entries.length} rowHeight=${ROW} render=${render} role="list" aria-label=${t("queue.list")} />
      ${drag.from !== null && html`<div class="queue-row dragged" aria-hidden="true" style=${{ top: `${drag.from * ROW + drag.by}px` }}>
        <span class="grip"><${Icon} name="grip" /></span><${Shown} entry=${entries[drag.from]} />
      </div>`}
      <div class="visually-hidden" role="status">${spoken}</div>
    </div>
  `;
}

function Row({ entry, index, count, isCurrent, reachable, drag, onKeyDown, takeOut, onFocus }) {
  const { title } = entry;
  const tabindex = reachable ? 0 : -1;
  return html`
    <div class=${`queue-row ${isCurrent ? "current" : ""} ${index < position.value ? "heard" : ""}`} role="listitem" aria-setsize=${count} aria-posinset=${index + 1}
      aria-current=${isCurrent ? "true" : undefined} data-key=${entry.key} style=${drag.styleOf(index)} onKeyDown=${(event) => onKeyDown(event, index)} onFocusIn=${onFocus}>
      <button type="button" class="grip" tabindex=${tabindex} aria-label=${t("queue.move", { title })} title=${t("queue.moveHint")}
        onPointerDown=${(event) => drag.begin(event, index)}><${Icon} name="grip" /></button>
      <button type="button" class="start" tabindex=${tabindex} aria-label=${t("queue.playTitle", { title })} onClick=${() => jump(index)}>
        <${Shown} entry=${entry} isCurrent=${isCurrent} />
      </button>
      <span class="muted album ellipsis">${entry.album}</span>
      <span class="muted number">${duration(entry.duration)}</span>
      <${IconButton} class="remove" icon="close" size=${18} tabindex=${tabindex} label=${t("queue.remove", { title })} onClick=${() => takeOut(index)} />
    </div>
  `;
}

function Shown({ entry, isCurrent = false }) {
  const isBad = failed.value.has(entry.key);
  return html`
    <span class="picture">
      <${Cover} track=${entry.has_cover ? entry.id : null} name=${entry.album ?? entry.title} />
      <${Icon} name=${isCurrent && playing.value ? "volume" : "play"} />
    </span>
    <span class="names">
      <span class="title ellipsis">${entry.title}</span>
      <span class=${`artist ellipsis ${isBad ? "bad" : ""}`}>${isBad ? t("queue.failed") : entry.artist}</span>
    </span>
  `;
}
