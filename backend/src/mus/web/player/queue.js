// What is played, and what comes next. Nothing here makes a sound: player/audio.js follows these signals.
import { batch, computed, signal } from "@preact/signals";
import { keep, kept } from "./kept.js";

/** Tracks as the API lists them, each with a `key` of its own: one may be in the queue twice. */
export const queue = signal([]);
/** Index into `queue`; -1 with nothing to play. */
export const position = signal(-1);
export const current = computed(() => queue.value[position.value] ?? null);
/** Whether it is to sound. */
export const playing = signal(false);
/** Whether the order is by chance. */
export const shuffled = signal(false);
/** "off", "all" or "one". */
export const repeat = signal("off");
/** Keys of those that turned out not to be playable: they are passed over. */
export const failed = signal(new Set());
/** Most tracks in the queue: playing "all" of a large library takes the next of them. */
export const MOST = 1_000;
/** What is kept of a track for the next visit. */
const FIELDS = ["id", "key", "title", "artist", "artist_id", "album_artist", "album", "album_id", "duration", "format", "has_cover"];

let keys = 0;
/** @type {number[]} keys in the order that the end of shuffling leads back to */
let straight = [];

const keyed = (tracks) => tracks.map((track) => ({ ...track, key: ++keys }));
const keysOf = (entries) => entries.map((entry) => entry.key);
const within = (index, length) => Math.max(0, Math.min(index, length - 1));

/** The index after `index` that can be played; -1 behind the last. */
function after(index) {
  const { length } = queue.value;
  for (let step = 1; step <= length; step++) {
    const next = index + step;
    if (next >= length && repeat.value === "off") return -1;
    if (!failed.value.has(queue.value[next % length].key)) return next % length;
  }
  return -1;
}

/** The index that comes by itself when the track is over; -1 for none. */
export const following = computed(() => {
  if (!current.value) return -1;
  return repeat.value === "one" && !failed.value.has(current.value.key) ? position.value : after(position.value);
});

/** In place of what was there, play these tracks from the one at `start`; without it from the first, or any when shuffling. */
export function play(tracks, start) {
  const from = within(start ?? 0, tracks.length - MOST + 1);
  const entries = keyed(tracks.slice(from, from + MOST));
  const first = start === undefined && shuffled.value ? Math.floor(Math.random() * entries.length) : within((start ?? 0) - from, entries.length);
  batch(() => {
    failed.value = new Set();
    straight = keysOf(entries);
    queue.value = shuffled.value ? mixed(entries, first) : entries;
    position.value = entries.length ? (shuffled.value ? 0 : first) : -1;
    playing.value = entries.length > 0;
  });
}

/** Play these tracks in an order by chance. */
export function playShuffled(tracks) {
  shuffled.value = true;
  play(tracks);
}

/** Put them right behind the track that plays. */
export function playNext(tracks) {
  insert(position.value + 1, keyed(tracks), straight.indexOf(current.value?.key) + 1);
}

/** Put them at the end. */
export function enqueue(tracks) {
  insert(queue.value.length, keyed(tracks), straight.length);
}

function insert(index, entries, straightIndex) {
  straight.splice(straightIndex, 0, ...keysOf(entries));
  const all = queue.value.toSpliced(index, 0, ...entries);
  // What was played long ago makes room for what is to come.
  const heard = within(all.length - MOST, Math.max(position.value, 0) + 1);
  batch(() => {
    queue.value = all.slice(heard, heard + MOST);
    position.value = queue.value.length ? Math.max(0, position.value - heard) : -1;
  });
}

/** To the next or, with -1, the one before, as a person asks for it; without one there, nothing happens. */
export function step(by) {
  const { length } = queue.value;
  const index = by > 0 ? after(position.value) : repeat.value === "all" ? (position.value - 1 + length) % length : position.value - 1;
  if (index < 0 || index >= length) return false;
  jump(index, { play: playing.value });
  return true;
}

/** To the track at `index`. */
export function jump(index, { play: sound = true } = {}) {
  const { key } = queue.value[index];
  batch(() => {
    if (failed.value.has(key)) failed.value = new Set([...failed.value].filter((each) => each !== key));
    position.value = index;
    playing.value = sound;
  });
}

/** Take the entry at `index` out. When it is the one that plays, the next one does. */
export function remove(index) {
  const list = queue.value.toSpliced(index, 1);
  batch(() => {
    queue.value = list;
    if (index < position.value) position.value -= 1;
    else if (position.value >= list.length) {
      position.value = list.length - 1;
      playing.value = false;
    }
  });
}

/** Put the entry at `from` where the one at `to` is. */
export function move(from, to) {
  const { key } = current.value;
  const list = queue.value.toSpliced(from, 1).toSpliced(to, 0, queue.value[from]);
  batch(() => {
    queue.value = list;
    position.value = list.findIndex((entry) => entry.key === key);
  });
}

/** Empty it; returns what brings it back. */
export function clear() {
  const before = [queue.value, position.value, straight];
  batch(() => {
    queue.value = [];
    position.value = -1;
    playing.value = false;
  });
  return () => batch(() => ([queue.value, position.value, straight] = before));
}

/** Begin or end an order by chance. What plays goes on. */
export function shuffle(on) {
  if (on === shuffled.value) return;
  const here = current.value;
  batch(() => {
    shuffled.value = on;
    if (!here) return;
    if (on) {
      straight = keysOf(queue.value);
      queue.value = mixed(queue.value, position.value);
      position.value = 0;
    } else {
      const ranks = new Map(straight.map((key, rank) => [key, rank]));
      queue.value = queue.value.toSorted((a, b) => ranks.get(a.key) - ranks.get(b.key));
      position.value = queue.value.indexOf(here);
    }
  });
}

/** Those of `entries` by chance, the one at `first` before them. */
function mixed(entries, first) {
  const rest = entries.toSpliced(first, 1);
  for (let i = rest.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [rest[i], rest[j]] = [rest[j], rest[i]];
  }
  return entries.length ? [entries[first], ...rest] : [];
}

/** An entry cannot be played. */
export function markFailed(entry) {
  failed.value = new Set([...failed.value, entry.key]);
}

/** What the server knows of a track by now takes the place of what was known. */
export function renew(track) {
  const known = FIELDS.filter((name) => name in track);
  const isOld = (entry) => entry.id === track.id && known.some((name) => track[name] !== entry[name]);
  if (!queue.value.some(isOld)) return;
  const fields = Object.fromEntries(known.map((name) => [name, track[name]]));
  queue.value = queue.value.map((entry) => (isOld(entry) ? { ...entry, ...fields } : entry));
}

/** As it was on the last visit. */
function restore() {
  const found = kept("queue");
  if (!Array.isArray(found?.tracks)) return;
  queue.value = found.tracks;
  keys = Math.max(0, ...keysOf(found.tracks));
  straight = found.straight;
  position.value = found.tracks.length ? within(found.position, found.tracks.length) : -1;
  shuffled.value = found.shuffled;
  repeat.value = found.repeat;
}

restore();
keep("queue", () => ({
  tracks: queue.value.map((entry) => Object.fromEntries(FIELDS.map((name) => [name, entry[name]]))),
  position: position.value,
  shuffled: shuffled.value,
  repeat: repeat.value,
  straight,
}));
