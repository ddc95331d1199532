// Albums as a grid of covers, of any number. Arrow keys go from cover to cover.
import { useCallback, useRef } from "preact/hooks";
import { html } from "../html.js";
import { AlbumCard } from "./album_card.js";
import { VirtualList } from "./virtual_list.js";
import { useWidth } from "./width.js";

const GAP = 20;
/** What the narrowest cover may have, on a phone and elsewhere, in pixels. */
const [NARROW, WIDE] = [140, 168];
/** Title and artist below the cover. */
const TEXT = 52;

/** `list` is one of useWindows, of albums. */
export function AlbumGrid({ list, label }) {
  const place = useRef(null);
  const width = useWidth(place);
  const gap = width < 500 ? GAP / 2 + 4 : GAP;
  const columns = Math.max(2, Math.floor((width + gap) / ((width < 500 ? NARROW : WIDE) + gap)));
  const cover = (width - gap * (columns - 1)) / columns;
  const render = (index) => html`<${AlbumCard} key=${index} album=${list.at(index)} data-index=${index}
    aria-posinset=${index + 1} aria-setsize=${list.total} />`;
  const onKeyDown = useCallback(
    (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
      const index = Number(event.target.closest("[data-index]")?.dataset.index);
      if (!step || Number.isNaN(index) || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      place.current.querySelector(`[data-index="${index + step}"] a`)?.focus();
    },
    [columns],
  );
  return html`
    <div class="album-grid" ref=${place} onKeyDown=${onKeyDown} style=${{ "--columns": columns, "--grid-gap": `${gap}px` }}>
      ${width > 0 && html`<${VirtualList} count=${list.total} rowHeight=${Math.floor(cover + TEXT + gap)} columns=${columns}
        render=${render} onRange=${list.show} role="list" aria-label=${label} />`}
    </div>
  `;
}
