// What is played, and what comes next. Nothing here makes a sound: player/audio.js follows these signals.
import { computed, signal } from "@preact/signals";

/** Tracks as the API lists them, each with a `key` of its own: one may be in the queue twice. */
export const queue = signal([]);
/** Index into `queue`; -1 with nothing to play. */
export const position = signal(-1);
export const current = computed(() => queue.value[position.value] ?? null);
/** Whether it is to sound. */
export const playing = signal(false);
/** Most tracks in the queue: playing "all" of a large library takes the next of them. */
export const MOST = 1_000;

let keys = 0;
const keyed = (tracks) => tracks.map((track) => ({ ...track, key: ++keys }));

/** Play these tracks from the one at `start`, in place of what was there. */
export function play(tracks, start = 0) {
  queue.value = keyed(tracks.slice(0, MOST));
  position.value = queue.value.length ? Math.min(start, queue.value.length - 1) : -1;
  playing.value = queue.value.length > 0;
}

/** Put them right behind the track that plays. */
export function playNext(tracks) {
  const at = position.value + 1;
  queue.value = [...queue.value.slice(0, at), ...keyed(tracks), ...queue.value.slice(at)].slice(0, MOST);
  if (position.value < 0 && queue.value.length) position.value = 0;
}

/** Put them at the end. */
export function enqueue(tracks) {
  queue.value = [...queue.value, ...keyed(tracks)].slice(0, MOST);
  if (position.value < 0 && queue.value.length) position.value = 0;
}
