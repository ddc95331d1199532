// The tags that can be edited, between what the API says of a track, the form's text, and what the API takes.
import { t } from "../text.js";

/** By groups. `kind`: line, lines (several), list (one a line), number, date, flag. */
export const GROUPS = [
  ["main", [["title", "line"], ["artist", "line"], ["album", "line"], ["album_artist", "line"], ["track_number", "number"], ["track_total", "number"],
    ["disc_number", "number"], ["disc_total", "number"], ["date", "date"], ["genres", "list"], ["composer", "line"], ["compilation", "flag"]]],
  ["text", [["comment", "lines"], ["lyrics", "lines"]]],
  ["names", [["artists", "list"], ["album_artists", "list"], ["title_sort", "line"], ["artist_sort", "line"], ["album_artist_sort", "line"], ["album_sort", "line"]]],
  ["musicbrainz", [["musicbrainz.recording", "uuid"], ["musicbrainz.track", "uuid"], ["musicbrainz.release", "uuid"], ["musicbrainz.release_group", "uuid"],
    ["musicbrainz.artist", "list"], ["musicbrainz.album_artist", "list"]]],
];

const KINDS = Object.fromEntries(GROUPS.flatMap(([, fields]) => fields));
export const kindOf = (name) => KINDS[name];
export const labelOf = (name) => t(`edit.field.${name.replace(".", "_")}`);

/** What a track says, as the form has it: a text, empty for none. */
function textOf(track, name) {
  const value = name.split(".").reduce((part, key) => part?.[key], track);
  if (value === undefined || value === null) return "";
  if (Array.isArray(value)) return value.join("\n");
  if (typeof value === "boolean") return value ? "yes" : "";
  return String(value);
}

/** The different texts of these tracks, in their order. */
export const textsOf = (tracks, name) => [...new Set(tracks.map((track) => textOf(track, name)))];

/** The API's changes for `touched`, a text by each field's name; an empty one removes the tag. */
export function changesOf(touched) {
  const changes = {};
  for (const [name, text] of Object.entries(touched)) {
    const [whole, part] = name.split(".");
    if (part) changes[whole] = { ...changes[whole], [part]: valueOf(name, text) };
    else changes[name] = valueOf(name, text);
  }
  return changes;
}

function valueOf(name, text) {
  const kind = kindOf(name);
  const clean = text.trim();
  if (kind === "flag") return clean === "yes" ? true : null;
  if (!clean) return null;
  if (kind === "number") return Number(clean);
  if (kind === "list") return clean.split("\n").map((line) => line.trim()).filter(Boolean);
  return clean;
}

/**
 * What will be different in a track: `[{name, before, after}]`, texts. The name shown and the single names go
 * together: who changes one alone changes the other as well (docs/editing.md).
 */
export function differences(track, touched) {
  const after = { ...Object.fromEntries(Object.entries(touched).map(([name, text]) => [name, normal(name, text)])) };
  for (const [shown, single] of [["artist", "artists"], ["album_artist", "album_artists"]]) {
    if (shown in after && !(single in after)) after[single] = after[shown];
    else if (single in after && (!(shown in after) || !after[shown])) after[shown] = after[single].split("\n").filter(Boolean).join("; ");
  }
  return Object.entries(after)
    .map(([name, text]) => ({ name, before: textOf(track, name), after: text }))
    .filter(({ before, after: next }) => before !== next);
}

/** As it will be read again. */
function normal(name, text) {
  const value = valueOf(name, text);
  return value === null ? "" : Array.isArray(value) ? [...new Set(value)].join("\n") : value === true ? "yes" : String(value);
}
