// Which of several copies of one track is the one to keep.
import { t } from "../text.js";

const LOSSLESS = new Set(["flac", "alac", "wav", "aiff", "ape", "wavpack", "dsf"]);
const NAMED = ["artist", "album", "album_artist", "track_number", "year", "genre"];

/** What speaks for a copy, the weightiest first; the first in which copies differ decides, and is the reason. */
const POINTS = [
  ["undamaged", (track) => (track.integrity === "damaged" ? 0 : 1)],
  ["lossless", (track) => (LOSSLESS.has(track.format) ? 1 : 0)],
  ["bitrate", (track) => (LOSSLESS.has(track.format) ? 0 : (track.bitrate ?? 0))],
  ["tags", (track) => NAMED.filter((name) => track[name] !== null && track[name] !== "").length],
  ["cover", (track) => (track.has_cover ? 1 : 0)],
  ["oldest", (track) => -new Date(track.added_at).getTime()],
  ["first", (track) => -track.id],
];

/** `{track, reason}` of at least two tracks, as `GET /duplicates` tells them. */
export function best(tracks) {
  let left = tracks;
  let reason = null;
  for (const [name, points] of POINTS) {
    const most = Math.max(...left.map(points));
    const ahead = left.filter((track) => points(track) === most);
    if (ahead.length < left.length) reason ??= t(`duplicates.reason.${name}`);
    left = ahead;
  }
  return { track: left[0], reason };
}
