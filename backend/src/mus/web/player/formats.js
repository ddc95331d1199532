// Which format of a track this browser can play.

const OGG = (codec) => `audio/ogg; codecs="${codec}"`;
const MP4 = (codec) => `audio/mp4; codecs="${codec}"`;
/** By the track's format. Of one that is not named here, the browser is asked by playing it. */
const TYPES = {
  mp3: "audio/mpeg",
  flac: "audio/flac",
  alac: MP4("alac"),
  aac: MP4("mp4a.40.2"),
  vorbis: OGG("vorbis"),
  opus: OGG("opus"),
  speex: OGG("speex"),
  wav: "audio/wav",
  aiff: "audio/aiff",
  wma: "audio/x-ms-wma",
  ape: "audio/x-ape",
  wavpack: "audio/x-wavpack",
  musepack: "audio/x-musepack",
  dsf: "audio/x-dsf",
};

const browser = document.createElement("audio");
const plays = (type) => browser.canPlayType(type) !== "";

/** The format to ask the server for instead of a track's own. */
export const substitute = plays(TYPES.opus) ? "opus" : "mp3";

/** Null to play the file itself, else the format to ask for. */
export function formatFor(track) {
  const type = TYPES[track.format];
  return !type || plays(type) ? null : substitute;
}
