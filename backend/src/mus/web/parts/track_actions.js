// What can be done with tracks, wherever they are shown.
import { t } from "../text.js";
import { at, navigate } from "../router.js";
import { queryString } from "../api.js";
import { enqueue, play, playNext, playShuffled } from "../player/queue.js";
import { scan, trashTracks } from "../care/actions.js";
import { say, sayFault } from "./toast.js";
import { isGone } from "./track_state.js";

export const playable = (tracks) => tracks.filter((track) => !isGone(track));

/** Play these from the one at `start`, or as the queue has it without; those that cannot be played are passed over. */
export function playFrom(tracks, start) {
  const before = playable(tracks.slice(0, start ?? 0));
  const rest = playable(tracks.slice(start ?? 0));
  if (rest.length) play([...before, ...rest], start === undefined ? undefined : before.length);
  else say(t("library.nothingToPlay"));
}

export function shuffleTracks(tracks) {
  if (playable(tracks).length) playShuffled(playable(tracks));
  else say(t("library.nothingToPlay"));
}

export function playTracksNext(tracks) {
  playNext(playable(tracks));
  say(t("library.comesNext", { count: tracks.length }));
}

export function enqueueTracks(tracks) {
  enqueue(playable(tracks));
  say(t("library.queued", { count: tracks.length }));
}

export const editTracks = (tracks) => navigate(`/edit${queryString({ track: tracks.map((track) => track.id) })}`);

/** `/tracks/ID`, in front of the list as it is shown. */
export const detailsAddress = (track) => at("tracks", track.id) + (location.pathname.startsWith("/tracks") ? location.search : "");

/** The deepest folder that all of them lie in: what is new there belongs to them, whatever its tags say. */
export function commonFolder(tracks) {
  const [first, ...others] = tracks.map((track) => track.path.split("/").slice(0, -1));
  const end = first.findIndex((part, i) => others.some((parts) => parts[i] !== part));
  return (end < 0 ? first : first.slice(0, end)).join("/");
}

/** Entries of a menu for one track. */
export function trackItems(track) {
  const live = !isGone(track);
  return [
    live && { label: t("library.playNext"), icon: "queue", run: () => playTracksNext([track]) },
    live && { label: t("library.enqueue"), icon: "add", run: () => enqueueTracks([track]) },
    { label: t("common.details"), icon: "info", run: () => navigate(detailsAddress(track)) },
    track.album_id && { label: t("library.toAlbum"), icon: "albums", run: () => navigate(at("albums", track.album_id)) },
    track.artist_id && { label: t("library.toArtist"), icon: "artists", run: () => navigate(at("artists", track.artist_id)) },
    live && { label: t("library.edit"), icon: "edit", run: () => editTracks([track]) },
    { label: t("library.scanFolder"), icon: "scan", run: () => scan({ library: track.library, path: commonFolder([track]) }) },
    live && { label: t("library.trash"), icon: "trash", run: () => trashTracks([track]) },
  ];
}

/** Run an action that asks the server first; what goes wrong is said. */
export const doing = (action) => () => Promise.resolve(action()).catch(sayFault);
