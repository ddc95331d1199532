// What stands against playing, and what to do about it: another format, waiting for the server, or the next track.
import { effect } from "@preact/signals";
import { problemWith } from "../api.js";
import { connection } from "../live.js";
import { t } from "../text.js";
import { substitute } from "./formats.js";

/** So long it may wait for sound before the server is asked why. A browser tries by itself, and tells nothing. */
const ASKED_AFTER_MS = 1_500;
/** So often it may have no reason before it begins anew: longer where the server has to make the sound first. */
const PATIENCE = { file: 6, made: 20 };
const AGAIN_MS = [1_000, 2_000, 4_000, 8_000];
/** So often a track may break off in one place before it counts as not playable. */
const MOST_TRIES = 3;
/** A sound that is made while it is sent, and ends so long before its end, was broken off. */
const EARLY_SECONDS = 5;
/** Answers that say "later": nobody there, nobody signed in, too much to do, or a fault of the server. */
const isPassing = ({ status }) => status === 0 || status === 401 || status === 429 || status >= 500;

export class Rescue {
  /** @type {{reload: Function, giveUp: Function, stop: Function, trouble: import("@preact/signals").Signal}} */
  #player;
  #timer = null;
  #waits = 0;
  #place = { key: null, seconds: 0, tries: 0 };
  /** Ends what is under way for an entry that is not wanted any more. */
  #turn = 0;

  constructor(player) {
    this.#player = player;
    // The live events find out first that the server is back.
    effect(() => {
      if (connection.value === "open" && this.#again) this.#again();
    });
  }
  /** @type {Function | null} */
  #again = null;

  /** Nothing is to be rescued any more: paused, or another track. */
  rest() {
    this.#turn++;
    this.#waits = 0;
    this.#again = null;
    clearTimeout(this.#timer);
    this.#player.trouble.value = null;
  }

  /** It sounds. */
  worked() {
    this.rest();
  }

  /** It waits for sound: not for ever. */
  watch(deck, patience = deck.format ? PATIENCE.made : PATIENCE.file) {
    if (this.#again) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(async () => {
      if (!patience) return this.failed(deck);
      const turn = this.#turn;
      const problem = await problemWith(deck.url);
      if (turn !== this.#turn) return;
      if (problem) this.failed(deck);
      else this.watch(deck, patience - 1);
    }, ASKED_AFTER_MS);
  }

  /** Whether what seems to be the end is none; it is tried again from there then. */
  endedEarly(deck) {
    if (!deck.format || !deck.entry.duration || deck.entry.duration - deck.time < EARLY_SECONDS || this.#isHopeless(deck)) return false;
    this.#player.reload(deck.time, deck.format);
    return true;
  }

  /** The element cannot go on. */
  async failed(deck) {
    clearTimeout(this.#timer);
    const turn = ++this.#turn;
    const { entry, format, time, audio } = deck;
    const code = audio.error?.code;
    const problem = await problemWith(deck.url);
    if (turn !== this.#turn) return;
    if (problem && isPassing(problem)) this.#wait(problem, deck.url, time, format);
    else if (problem?.category === "admin_required") this.#player.stop(problem.message);
    else if (problem) this.#player.giveUp(entry, problem.message);
    else if (code === MediaError.MEDIA_ERR_NETWORK || code === undefined) {
      if (this.#isHopeless(deck)) this.#player.giveUp(entry, t("player.breaksOff"));
      else this.#player.reload(time, format);
    } else if (!format) this.#player.reload(time, substitute);
    else this.#player.giveUp(entry, t("player.notPlayable"));
  }

  #isHopeless({ entry, time }) {
    const same = this.#place.key === entry.key && Math.abs(this.#place.seconds - time) < 1;
    this.#place = { key: entry.key, seconds: time, tries: same ? this.#place.tries + 1 : 1 };
    return this.#place.tries > MOST_TRIES;
  }

  /** Until the server can be asked again; then on from the same place. */
  #wait(problem, url, seconds, format) {
    const { trouble, reload } = this.#player;
    trouble.value = problem.status === 0 ? t("player.lost") : problem.message;
    const turn = this.#turn;
    this.#again = async () => {
      clearTimeout(this.#timer);
      this.#again = null;
      const still = await problemWith(url);
      if (turn !== this.#turn) return;
      if (still && isPassing(still)) this.#wait(still, url, seconds, format);
      else reload(seconds, format);
    };
    this.#timer = setTimeout(this.#again, AGAIN_MS[Math.min(this.#waits++, AGAIN_MS.length - 1)]);
  }
}
