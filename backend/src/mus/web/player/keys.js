// The player by keys, from anywhere in the page but where one types or another part has the keys for itself.
import { next, previous, seekBy, setVolume, toggle, volume } from "./audio.js";
import { toggleMute } from "./controls.js";
import { optionsShown, singleKeys } from "./options.js";
import { current } from "./queue.js";

const SEEK_SECONDS = 5;
const VOLUME_STEP = 0.05;
const TYPES = "input:not([type=checkbox], [type=radio], [type=range], [type=button], [type=submit]), textarea, select, [contenteditable]";
/** Where arrow keys have a meaning of their own. */
const MOVES = "input, [role=menu], [role=slider], [role=tablist], [role=grid], [role=listbox], [role=radiogroup]";
const PRESSED = "button, input, summary, [role=menuitem], [role=option], [role=checkbox]";

const BY_KEY = {
  " ": { run: toggle, notOn: PRESSED },
  n: { run: next },
  p: { run: previous },
  m: { run: toggleMute },
  ArrowLeft: { run: () => seekBy(-SEEK_SECONDS), notOn: MOVES },
  ArrowRight: { run: () => seekBy(SEEK_SECONDS), notOn: MOVES },
  // Elsewhere they scroll.
  ArrowUp: { run: () => setVolume(volume.value + VOLUME_STEP), notOn: MOVES, onlyOn: ".player, .open-player" },
  ArrowDown: { run: () => setVolume(volume.value - VOLUME_STEP), notOn: MOVES, onlyOn: ".player, .open-player" },
};
const BY_SHIFT = { ArrowLeft: { run: previous, notOn: MOVES }, ArrowRight: { run: next, notOn: MOVES } };

/** Returns what ends it. */
export function listenToKeys() {
  addEventListener("keydown", onKeyDown);
  return () => removeEventListener("keydown", onKeyDown);
}

function onKeyDown(event) {
  const { target, key } = event;
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing || !singleKeys.value) return;
  if (target.closest(TYPES) || target.closest("dialog:not(.open-player)")) return;
  if (key === "?") optionsShown.value = true;
  const found = (event.shiftKey ? BY_SHIFT : BY_KEY)[key];
  if (!found || !current.value || (found.notOn && target.closest(found.notOn)) || (found.onlyOn && !target.closest(found.onlyOn))) return;
  event.preventDefault();
  if (!event.repeat || key.startsWith("Arrow")) found.run();
}
