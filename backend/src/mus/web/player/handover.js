// One track ends and the next begins, without a gap where the browser can: a second deck has it ready and is started at
// the instant. Only the end of the first makes the queue go on, so that nothing is passed over or heard twice.
import { learn } from "./loudness.js";

/** The next is fetched so long before the end. */
const AHEAD_SECONDS = 30;
/** A timer is set when the end is so near; the closer, the better it hits. */
const TIMED_SECONDS = 1;
/** An element sounds so long after it was told to: measured in Chromium. */
const LEAD_MS = 12;
/** One that goes on for so long after its end had a wrong length. */
const LATE_MS = 1_000;

export class Handover {
  #timer = null;
  #guard = null;
  /** @type {import("./deck.js").Deck | null} the next, while both sound */
  #started = null;
  /** Key of an entry that could not be made ready: it is tried anew when it is its turn. */
  #unready = null;

  /** `active` is nearer to its end than before, and `entry` comes behind it. */
  watch(active, spare, entry) {
    const left = active.end - active.time;
    if (!(left <= AHEAD_SECONDS) || this.#started || this.#unready === entry.key) return;
    if (spare.entry?.key !== entry.key) {
      spare.load(entry);
      learn(entry);
    }
    clearTimeout(this.#timer);
    if (left <= TIMED_SECONDS) this.#timer = setTimeout(() => this.#begin(active, spare), Math.max(0, left * 1000 - LEAD_MS));
  }

  #begin(active, spare) {
    const { paused, seeking, ended } = active.audio;
    if (paused || seeking || ended || !spare.ready) return;
    this.#started = spare;
    spare.play();
    this.#guard = setTimeout(() => this.takeBack(), LATE_MS);
  }

  /** The first goes on after all: the next waits at its beginning. */
  takeBack() {
    clearTimeout(this.#timer);
    clearTimeout(this.#guard);
    const deck = this.#started;
    this.#started = null;
    if (!deck) return;
    deck.pause();
    deck.seek(0);
  }

  /** The next, `deck`, is the one that is heard. */
  done() {
    clearTimeout(this.#timer);
    clearTimeout(this.#guard);
    this.#started = this.#unready = null;
  }

  /** It cannot be made ready. */
  forget(deck) {
    this.#unready = deck.entry.key;
    deck.clear();
  }
}
