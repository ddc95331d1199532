// Rows of one height that are dragged to another place, by mouse, pen or finger. The list scrolls at its edges.
import { useEffect, useRef, useState } from "preact/hooks";

/** So near to an edge it scrolls, by so many pixels a frame at most. */
const EDGE = 70;
const PACE = 14;

/** `drop(from, to)` is called with indexes. Returns `{from, by, begin, styleOf}`; `from` is null while nothing is dragged, `by` in pixels. */
export function useDrag({ rowHeight, count, drop }) {
  const [dragged, setDragged] = useState(null);
  const end = useRef(null);
  useEffect(() => () => end.current?.(), []);

  const begin = (event, from) => {
    if (event.button) return;
    event.preventDefault(); // no selection of text, no scrolling by the finger
    const handle = event.currentTarget;
    const main = handle.closest(".main");
    // A row that is scrolled out of sight is not drawn any more; the list stays.
    const list = handle.closest("[role=list]");
    const startsAt = event.clientY + main.scrollTop;
    let pointer = event.clientY;
    let frame = 0;
    list.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    const placed = () => {
      const by = pointer + main.scrollTop - startsAt;
      const to = Math.max(0, Math.min(count - 1, from + Math.round(by / rowHeight)));
      return { from, to, by };
    };
    const scroll = () => {
      const { top, bottom } = main.getBoundingClientRect();
      const beyond = Math.max(0, top + EDGE - pointer) * -1 + Math.max(0, pointer - bottom + EDGE);
      if (beyond) {
        main.scrollTop += Math.max(-PACE, Math.min(PACE, beyond / 4));
        setDragged(placed());
      }
      frame = requestAnimationFrame(scroll);
    };
    const onMove = (moved) => {
      pointer = moved.clientY;
      setDragged(placed());
    };
    const onUp = () => {
      const { to } = placed();
      end.current();
      drop(from, to);
    };
    const onKey = (pressed) => {
      if (pressed.key !== "Escape") return;
      pressed.stopPropagation();
      end.current();
    };
    end.current = () => {
      cancelAnimationFrame(frame);
      for (const [type, listener] of Object.entries(listeners)) removeEventListener(type, listener, true);
      end.current = null;
      setDragged(null);
    };
    const listeners = { pointermove: onMove, pointerup: onUp, pointercancel: () => end.current(), keydown: onKey };
    for (const [type, listener] of Object.entries(listeners)) addEventListener(type, listener, true);
    frame = requestAnimationFrame(scroll);
    setDragged(placed());
  };

  const styleOf = (index) => {
    if (!dragged) return undefined;
    const { from, to } = dragged;
    if (index === from) return { visibility: "hidden" };
    const shift = from < index && index <= to ? -rowHeight : to <= index && index < from ? rowHeight : 0;
    return shift ? { transform: `translateY(${shift}px)` } : undefined;
  };
  return { from: dragged?.from ?? null, by: dragged?.by ?? 0, begin, styleOf };
}
