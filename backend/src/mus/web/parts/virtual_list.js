// A list of any length of which only the rows in sight exist. It scrolls with the page's main part.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { html } from "../html.js";

/** Pixels above and below what is in sight that are drawn too: what a turn of the wheel passes. */
const BEYOND = 500;
/** The range moves by so many lines at once, so that not every line that passes draws all of them anew. */
const STEP = 4;

/**
 * `count` rows, each `rowHeight` pixels high, `columns` of them beside each other (1 for a list).
 * `render(index)` draws one, given `style` to hand on; `onRange(first, last)` is told which are needed.
 */
export function VirtualList({ count, rowHeight, columns = 1, render, onRange, class: name = "", ...rest }) {
  const place = useRef(null);
  const [range, setRange] = useState([0, 40]);
  const lines = Math.ceil(count / columns);
  const measure = () => {
    const list = place.current;
    if (!list) return;
    const scroller = list.closest(".main");
    const above = scroller.getBoundingClientRect().top - list.getBoundingClientRect().top;
    const first = Math.max(0, STEP * Math.floor((above - BEYOND) / rowHeight / STEP));
    const last = Math.min(lines, STEP * Math.ceil((above + scroller.clientHeight + BEYOND) / rowHeight / STEP));
    setRange((before) => (before[0] === first && before[1] === last ? before : [first, Math.max(first, last)]));
  };
  useLayoutEffect(measure, [count, rowHeight, columns]);
  useEffect(() => {
    const scroller = place.current.closest(".main");
    const watched = new ResizeObserver(measure);
    watched.observe(scroller);
    scroller.addEventListener("scroll", measure, { passive: true });
    return () => {
      watched.disconnect();
      scroller.removeEventListener("scroll", measure);
    };
  }, [count, rowHeight, columns]);
  const [first, last] = [range[0] * columns, Math.min(count, range[1] * columns)];
  useEffect(() => onRange?.(first, last), [first, last, onRange]);
  const rows = [];
  for (let index = first; index < last; index++) rows.push(render(index));
  return html`
    <div class=${`virtual ${name}`} ref=${place} style=${{ height: `${lines * rowHeight}px` }} ...${rest}>
      <div class="window" style=${{ transform: `translateY(${range[0] * rowHeight}px)` }}>${rows}</div>
    </div>
  `;
}
