// Where somebody was in each view that was visited: for the way back, and over a reload.

/** Visits of which the place is kept over a reload. */
const KEPT = 50;
const NAME = "mus.places";
const BY_HAND = ["wheel", "touchstart", "pointerdown", "keydown"];

/** @type {Map<number, number>} pixels from the top by the history's entry; the latest last */
const places = new Map(read());

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(NAME)) ?? [];
  } catch {
    return [];
  }
}

addEventListener("pagehide", () => {
  try {
    sessionStorage.setItem(NAME, JSON.stringify([...places].slice(-KEPT)));
  } catch {
    // Full, or forbidden: a reload leads to the view's beginning.
  }
});

/** While a view still grows to where it was, what it shows meanwhile is no place of anybody. */
let growing = false;

export function keepPlace(entry, { scrollTop }) {
  if (growing) return;
  places.delete(entry);
  places.set(entry, scrollTop);
}

export const hasPlace = (entry) => places.has(entry);

/**
 * Scroll `main` to the place of `entry`: at once, or as soon as what is fetched has made it so high, unless a person
 * moves first. Returns what ends it.
 */
export function goToPlace(entry, main) {
  const wanted = places.get(entry) ?? 0;
  const go = () => {
    main.scrollTop = wanted;
    if (Math.abs(main.scrollTop - wanted) < 2) end();
  };
  const grown = new MutationObserver(go);
  function end() {
    growing = false;
    grown.disconnect();
    for (const type of BY_HAND) removeEventListener(type, end, true);
  }
  growing = true;
  grown.observe(main, { childList: true, subtree: true, attributeFilter: ["style"] });
  for (const type of BY_HAND) addEventListener(type, end, { capture: true, passive: true });
  go();
  return end;
}
