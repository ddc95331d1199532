// Loudness made even by what the server measured (ReplayGain 2.0), applied by Web Audio.
import { computed, effect, signal } from "@preact/signals";
import { get } from "../api.js";
import { following, position, queue, renew } from "./queue.js";

export const MODES = ["auto", "track", "album", "off"];
const known = localStorage.getItem("mus.loudness");
/** "off", "track", "album", or "auto": by album where the queue holds one of them, else by track. */
export const mode = signal(MODES.includes(known) ? known : "auto");
effect(() => localStorage.setItem("mus.loudness", mode.value));

/** Whether the tracks around `index` are of its album. */
function amongItsAlbum(list, index) {
  const same = (other) => other?.album && other.album === list[index].album && (other.album_artist ?? other.artist) === (list[index].album_artist ?? list[index].artist);
  return Boolean(same(list[index - 1]) || same(list[index + 1]));
}

const KEPT = 50;
/** @type {Map<number, {loudness, replaygain}>} */
const details = signal(new Map());

/** Learn what the server knows of a track, until its loudness is. Without an answer it plays as it is. */
export async function learn(track) {
  if (details.value.get(track.id)?.loudness) return;
  try {
    const detail = await get(`/tracks/${track.id}`);
    details.value = new Map([...details.value, [track.id, detail]].slice(-KEPT));
    renew(detail);
  } catch {
    // The player says by itself what stands against playing it.
  }
}

/**
 * `{decibels, factor, album}` for a track: what was measured, else what the file's tags say, and by how much samples are
 * multiplied: never so far that its loudest one would pass full scale.
 */
function gainOf(detail, asAlbum) {
  const found = detail?.loudness?.replaygain ?? detail?.replaygain ?? {};
  const album = asAlbum && Number.isFinite(found.album_gain);
  const decibels = album ? found.album_gain : found.track_gain;
  if (!Number.isFinite(decibels)) return { decibels: null, factor: 1, album: false };
  const peak = (album ? found.album_peak : found.track_peak) ?? 0;
  const wanted = 10 ** (decibels / 20);
  const factor = peak > 0 ? Math.min(wanted, 1 / peak) : wanted;
  return { decibels: 20 * Math.log10(factor), factor, album };
}

function levelAt(index) {
  const entry = queue.value[index];
  if (!entry || mode.value === "off") return { key: entry?.key, decibels: null, factor: 1, album: false };
  const asAlbum = mode.value === "album" || (mode.value === "auto" && amongItsAlbum(queue.value, index));
  return { key: entry.key, ...gainOf(details.value.get(entry.id), asAlbum) };
}

/** Of the track that plays. */
export const level = computed(() => levelAt(position.value));
/** Of the one that follows. */
export const nextLevel = computed(() => levelAt(following.value));

/** @type {AudioContext | null} */
let context = null;

/** Lead the sound of an element through a gain, once a person has asked for sound; null where the browser has none. */
export function gainNode(audio) {
  if (typeof AudioContext === "undefined") return null;
  if (!context) {
    context = new AudioContext({ latencyHint: "playback" });
    // Without it, Safari on phones silences what goes through Web Audio when the screen is locked.
    if (navigator.audioSession) navigator.audioSession.type = "playback";
  }
  const node = context.createGain();
  context.createMediaElementSource(audio).connect(node).connect(context.destination);
  return node;
}

/** A context that a browser put to sleep is silent: wake it before playing. */
export function wake() {
  if (context && context.state !== "running") context.resume().catch(() => {});
}
