// How wide a place is, for grids of which the page must know the number of columns.
import { useLayoutEffect, useState } from "preact/hooks";

/** Of the last one that was measured: who comes back has the list's height at once, and so its place in it. */
let last = 0;

/** The width in pixels of what `place` refers to, and 0 before there ever was one. */
export function useWidth(place) {
  const [width, setWidth] = useState(last);
  useLayoutEffect(() => {
    const measure = () => setWidth((last = place.current.clientWidth));
    const watched = new ResizeObserver(measure);
    watched.observe(place.current);
    measure();
    return () => watched.disconnect();
  }, []);
  return width;
}
