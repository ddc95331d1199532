// The sound: it follows the queue's signals, and tells how far it is.
import { effect, signal, untracked } from "@preact/signals";
import { t } from "../text.js";
import { session } from "../session.js";
import { say } from "../parts/toast.js";
import { Deck } from "./deck.js";
import { keep, kept } from "./kept.js";
import { learn, level, mode, nextLevel } from "./loudness.js";
import { Handover } from "./handover.js";
import { Rescue } from "./rescue.js";
import { current, following, markFailed, playing, position, queue, step } from "./queue.js";

/** Seconds into the track. */
export const time = signal(0);
/** Seconds that it has; 0 while nobody knows. */
export const length = signal(0);
/** Whether it waits for sound to arrive. */
export const waiting = signal(false);
/** What keeps it from playing for now, in words; null for nothing. It goes on by itself. */
export const trouble = signal(null);
/** From 0 to 1, as people hear it. */
export const volume = signal(kept("volume")?.volume ?? 1);
export const muted = signal(kept("volume")?.muted ?? false);

/** Going back within the first of a track's seconds leads to the one before it, later to its beginning. */
const RESTART_SECONDS = 3;
const PLACE_KEPT_MS = 5_000;
const TOLD = { timeupdate: onTime, canplay: onTime, seeked: onTime, waiting: onWaiting, playing: onPlaying, ended: onEnded, error: onError, refused: onRefused };

let [active, spare] = [new Deck(tell), new Deck(tell)];
/** Key of the entry that `time` is about. */
let here = null;
const handover = new Handover();
const rescue = new Rescue({ reload, giveUp, stop, trouble });

function tell(event, deck) {
  if (deck === active) TOLD[event](deck);
  else if (event === "error") handover.forget(deck);
}

/** As the queue says: this entry, sounding or not. */
function follow(entry, on) {
  if (entry?.key !== here) change(entry);
  if (!entry) return;
  if (!on) {
    handover.takeBack();
    waiting.value = false;
    rescue.rest();
    return active.pause();
  }
  if (active.entry?.key !== entry.key || active.audio.error) active.load(entry, time.value);
  active.entry = entry; // what is known of it may be new
  learn(entry);
  setLevels();
  active.play();
}

function setLevels() {
  // Loudness is heard as about the square root of what a volume says.
  const common = { volume: volume.value ** 2, muted: muted.value, even: mode.value !== "off" };
  active.setLevel({ ...common, factor: level.value.factor });
  spare.setLevel({ ...common, factor: nextLevel.value.factor });
}

/** Another entry, or none, is to be heard. */
function change(entry) {
  here = entry?.key ?? null;
  rescue.rest();
  time.value = 0;
  length.value = entry?.duration ?? 0;
  if (entry && spare.entry?.key === entry.key) swap();
  else active.clear();
}

function swap() {
  handover.done(spare);
  [active, spare] = [spare, active];
  spare.clear();
}

function onTime() {
  time.value = active.time;
  length.value = active.length;
  const next = queue.value[following.value];
  if (next && playing.value) handover.watch(active, spare, next);
}

function onPlaying() {
  waiting.value = false;
  rescue.worked(time.value);
}

function onWaiting() {
  waiting.value = playing.value;
  if (playing.value) rescue.watch(active);
}

function onEnded() {
  if (!playing.value || rescue.endedEarly(active)) return;
  const next = following.value;
  if (next < 0) {
    playing.value = false;
    seek(0);
  } else if (next === position.value) {
    if (spare.entry?.key === here) swap();
    else active.seek(0);
    active.play();
  } else position.value = next;
}

function onError() {
  rescue.failed(active);
}

function onRefused() {
  playing.value = false;
}

function reload(seconds, format) {
  active.load(current.value, seconds, format);
  active.play();
}

/** This one cannot be played: on to the next that can. */
function giveUp(entry, reason) {
  markFailed(entry);
  say(t("player.cannotPlay", { title: entry.title, reason }), { bad: true });
  if (following.value < 0) playing.value = false;
  else position.value = following.value;
}

function stop(reason) {
  playing.value = false;
  say(reason, { bad: true });
}

export const toggle = () => {
  if (current.value) playing.value = !playing.value;
};

export function seek(seconds) {
  if (!current.value) return;
  handover.takeBack();
  time.value = Math.max(0, Math.min(seconds, length.value || Infinity));
  if (active.entry) active.seek(time.value);
}

export const seekBy = (seconds) => seek(time.value + seconds);
export const next = () => step(1);

export function previous() {
  if (time.value > RESTART_SECONDS || !step(-1)) seek(0);
}

export function setVolume(value) {
  volume.value = Math.max(0, Math.min(1, value));
  muted.value = false;
}

const place = kept("place");
here = current.value?.key ?? null;
length.value = current.value?.duration ?? 0;
if (here !== null && place?.key === here) time.value = place.seconds;

keep("volume", () => ({ volume: volume.value, muted: muted.value }));
keep("place", () => ({ key: current.value?.key ?? null, seconds: time.value }), PLACE_KEPT_MS);

effect(() => {
  const [entry, on] = [current.value, playing.value];
  untracked(() => follow(entry, on));
});

effect(setLevels);

effect(() => {
  const next = queue.value[following.value];
  untracked(() => {
    if (spare.entry && spare.entry.key !== next?.key) {
      handover.takeBack();
      spare.clear();
    }
  });
});

effect(() => {
  if (session.value === "out") playing.value = false;
});

// One tab sounds at a time.
const tabs = new BroadcastChannel("mus.player");
effect(() => {
  if (playing.value) tabs.postMessage("plays");
});
tabs.onmessage = () => {
  playing.value = false;
};
