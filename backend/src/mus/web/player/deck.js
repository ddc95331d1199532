// One audio element with what is in it: a track, as a file or in another format. There are two, for one to begin where
// the other ends.
import { streamUrl } from "../api.js";
import { formatFor } from "./formats.js";
import { gainNode, wake } from "./loudness.js";

const EVENTS = ["timeupdate", "playing", "waiting", "ended", "error", "seeked", "canplay"];
/** Of a sound that is made from a place on, so much is asked for at least: one that ends before it is a fault. */
const LAST_SECONDS = 0.5;
/** A key that is held down moves on many times: the server is asked for the last place. */
const ASKED_AFTER_MS = 200;

export class Deck {
  /** @type {object | null} the queue's entry */
  entry = null;
  /** @type {string | null} what it was asked for instead of the file itself */
  format = null;
  /** Seconds of the track that are left out at the beginning of what the element has. */
  #from = 0;
  /** @type {number | null} the place that is on its way */
  #wanted = null;
  #asking = null;
  #sounds = false;
  /** @type {GainNode | null} */
  #gain = null;
  #level = { factor: 1, volume: 1, even: false };

  /** @param {(event: string, deck: Deck) => void} tell what the element says, and "refused": no sound without a gesture */
  constructor(tell) {
    this.#tell = tell;
    this.audio = document.createElement("audio");
    this.audio.preload = "auto";
    this.audio.addEventListener("loadedmetadata", () => this.#arrive());
    for (const type of EVENTS)
      this.audio.addEventListener(type, () => {
        if (type === "seeked") this.#wanted = null;
        if (this.entry) tell(type, this);
      });
    document.body.append(this.audio);
  }
  #tell;

  get url() {
    return streamUrl(this.entry.id, this.format);
  }

  /** Seconds into the track. */
  get time() {
    return this.#wanted ?? this.#from + this.audio.currentTime;
  }

  /** Seconds, as far as anybody knows: the stored length is exact, that of the browser often a guess. */
  get length() {
    return this.entry?.duration || this.#browserLength;
  }

  /** Where it is over at the latest. */
  get end() {
    return Math.max(this.entry?.duration ?? 0, this.#browserLength);
  }

  get #browserLength() {
    return Number.isFinite(this.audio.duration) ? this.#from + this.audio.duration : 0;
  }

  /** Whether it can sound at once. */
  get ready() {
    return this.entry !== null && this.#wanted === null && this.audio.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA;
  }

  /** Put a track in, at a place. */
  load(entry, seconds = 0, format = formatFor(entry)) {
    Object.assign(this, { entry, format });
    this.#wanted = seconds || null;
    this.#open(0);
  }

  #open(from) {
    clearTimeout(this.#asking);
    this.#from = from;
    this.audio.src = streamUrl(this.entry.id, this.format, from);
    if (this.#sounds) this.#play();
  }

  /** Its length and ranges are known: go to the place that was asked for. */
  #arrive() {
    if (this.#wanted === null) return;
    if (this.#from > 0 || this.#wanted === 0) this.#wanted = null;
    else if (this.#reaches(this.#wanted)) this.audio.currentTime = this.#wanted;
    else this.#open(Math.min(this.#wanted, this.length - LAST_SECONDS));
  }

  /** Whether the element can go there by itself. What is transcoded just now comes in one piece, without ranges. */
  #reaches(seconds) {
    const { seekable, duration } = this.audio;
    const place = seconds - this.#from;
    if (!this.format) return true;
    return Number.isFinite(duration) && seekable.length > 0 && place >= 0 && place <= seekable.end(seekable.length - 1);
  }

  seek(seconds) {
    this.#wanted = seconds;
    clearTimeout(this.#asking);
    if (this.audio.readyState === HTMLMediaElement.HAVE_NOTHING) return;
    if (this.#reaches(seconds)) this.audio.currentTime = seconds - this.#from;
    // By now all of it may be there, with ranges; where not, it is asked for from the place on.
    else this.#asking = setTimeout(() => this.#open(0), ASKED_AFTER_MS);
  }

  play() {
    this.#sounds = true;
    this.#apply();
    wake();
    this.#play();
  }

  #play() {
    this.audio.play().catch((error) => {
      if (error.name === "NotAllowedError") this.#tell("refused", this);
    });
  }

  pause() {
    this.#sounds = false;
    this.audio.pause();
  }

  clear() {
    if (!this.entry) return;
    this.pause();
    clearTimeout(this.#asking);
    this.entry = this.#wanted = null;
    this.audio.removeAttribute("src");
    this.audio.load();
  }

  /** Samples are multiplied by `factor` where loudness is made `even`; `volume` from 0 to 1 is how loud a person wants it. */
  setLevel({ muted, ...level }) {
    this.#level = level;
    this.audio.muted = muted;
    this.#apply();
  }

  #apply() {
    const { factor, volume, even } = this.#level;
    // Not before a person has asked for sound: a browser would keep Web Audio asleep.
    if (even && this.#sounds) this.#gain ??= gainNode(this.audio);
    // Without Web Audio it can be made quieter, not louder.
    this.audio.volume = this.#gain ? volume : volume * Math.min(1, factor);
    if (!this.#gain) return;
    const { gain, context } = this.#gain;
    // While it sounds, in a few hundredths of a second: a jump would click.
    if (this.audio.paused) gain.value = factor;
    else gain.setTargetAtTime(factor, context.currentTime, 0.02);
  }
}
