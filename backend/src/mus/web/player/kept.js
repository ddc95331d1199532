// What the player remembers in this browser.
import { effect } from "@preact/signals";

const SOON_MS = 300;

/** A tab goes on with its own; a new one begins with the latest of any. Null for nothing. */
export function kept(name) {
  try {
    return JSON.parse(sessionStorage.getItem(`mus.${name}`) ?? localStorage.getItem(`mus.${name}`));
  } catch {
    return null;
  }
}

/** Keep what `read` gives from its signals: within `ms` of a change, and at once when the page goes away. */
export function keep(name, read, ms = SOON_MS) {
  let timer = null;
  let value = null;
  const write = () => {
    clearTimeout(timer);
    timer = null;
    const text = JSON.stringify(value);
    for (const store of [sessionStorage, localStorage]) {
      try {
        store.setItem(`mus.${name}`, text);
      } catch {
        // Full, or forbidden: it plays all the same, and the next visit begins without.
      }
    }
  };
  effect(() => {
    value = read();
    timer ??= setTimeout(write, ms);
  });
  for (const leaving of ["pagehide", "visibilitychange"]) addEventListener(leaving, () => timer && write());
}
