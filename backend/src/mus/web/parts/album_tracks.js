// The tracks of albums, in the order in which they are heard.
import { getMany } from "../api.js";
import { MOST } from "../player/queue.js";

const byName = new Intl.Collator("en", { numeric: true }).compare;
const folderOf = ({ path }) => path.slice(0, path.lastIndexOf("/") + 1);
const order = (one, other) =>
  (one.track_number ?? Infinity) - (other.track_number ?? Infinity) || byName(one.path, other.path);

function groups(tracks, keyOf) {
  const found = new Map(tracks.map((track) => [keyOf(track), []]));
  for (const track of tracks) found.get(keyOf(track)).push(track);
  return [...found];
}

/**
 * `[{disc, folder, tracks}]` of an album. `folder` is null but where one disc has two tracks of one number in different
 * folders: those are discs that nobody numbered, or the same album twice.
 */
export function partsOf(tracks) {
  const discs = groups(tracks, (track) => track.disc_number ?? 1).sort(([one], [other]) => one - other);
  return discs.flatMap(([disc, ofDisc]) => {
    const numbered = ofDisc.filter((track) => track.track_number !== null);
    const isSplit = groups(numbered, (track) => track.track_number).some(([, same]) => new Set(same.map(folderOf)).size > 1);
    const parts = isSplit ? groups(ofDisc, folderOf).sort(([one], [other]) => byName(one, other)) : [[null, ofDisc]];
    return parts.map(([folder, ofPart]) => ({ disc, folder, tracks: ofPart.toSorted(order) }));
  });
}

const inOrder = (tracks) => partsOf(tracks).flatMap((part) => part.tracks);

/** What GET `path`, an album's address, has, with its tracks in order: as many as can be played at once. */
export async function wholeAlbum(path, query, options) {
  const album = await getMany(path, query, { most: MOST, ...options });
  return { ...album, items: inOrder(album.items) };
}

/** The tracks of an artist, album by album. */
export async function tracksOfArtist(name) {
  const { items } = await getMany("/tracks", { artist: name, sort: "album" }, { most: MOST });
  return groups(items, (track) => track.album_id).flatMap(([, ofAlbum]) => inOrder(ofAlbum));
}
