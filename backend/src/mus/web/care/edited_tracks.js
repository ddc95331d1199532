// The tracks that an address of the edit view means, with everything that is known of them.
import { useEffect, useRef, useState } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { get, getMany } from "../api.js";
import { navigate } from "../router.js";

/** Tracks edited at once. */
export const MOST = 1_000;
/** Tracks whose tags are asked for at once: what an address has room for on the way through other servers. */
const TAGS = 250;
/** What an address has room for. */
const NAMED = 500;

/**
 * `{tracks, beyond, error, part, reload}` for `?track=1&track=2`, `?album=` or `?artist=`; `beyond`: there were more.
 * `part` is a signal of how much is there, 0 to 1.
 */
export function useEditedTracks(search) {
  const [state, setState] = useState({ tracks: null, beyond: false, error: null });
  const part = useSignal(0);
  /** The address whose tracks are there, and their ids. */
  const known = useRef({ search: null, ids: null });
  /** Counts what was asked for: an answer to what is not wanted any more neither shows tracks nor leads to them. */
  const asked = useRef(0);
  const load = async () => {
    const mine = ++asked.current;
    try {
      const ids = known.current.search === search ? known.current.ids : await idsOf(new URLSearchParams(search));
      part.value = 0;
      const tracks = [];
      for (let first = 0; first < Math.min(MOST, ids.length); first += TAGS) {
        const { items } = await get("/tracks/tags", { id: ids.slice(first, Math.min(MOST, first + TAGS)) });
        // Who has left waits for none of the others.
        if (mine !== asked.current) return;
        tracks.push(...items);
        part.value = (first + TAGS) / Math.min(MOST, ids.length);
      }
      known.current = { search: addressOf(search, ids), ids };
      setState({ tracks, beyond: ids.length > MOST, error: null });
    } catch (error) {
      if (mine === asked.current) setState({ tracks: null, beyond: false, error });
    }
  };
  useEffect(() => {
    if (known.current.search === search) return;
    known.current = { search: null, ids: null };
    setState({ tracks: null, beyond: false, error: null });
    load();
  }, [search]);
  useEffect(() => () => void asked.current++, []);
  return { ...state, part, reload: load };
}

/** An album's id goes with its name, which may be edited here: from then on the address names its tracks. */
function addressOf(search, ids) {
  if (!ids.length || ids.length > NAMED || search.startsWith("track=")) return search;
  const named = ids.map((id) => `track=${id}`).join("&");
  navigate(`/edit?${named}`, { replace: true });
  return named;
}

async function idsOf(query) {
  const album = query.get("album");
  if (album) return all(`/albums/${encodeURIComponent(album)}`, {});
  const artist = query.get("artist");
  if (!artist) return query.getAll("track");
  const { name } = await get(`/artists/${encodeURIComponent(artist)}`);
  return all("/tracks", { artist: name, sort: "album" });
}

const all = async (path, query) => (await getMany(path, query, { most: MOST + 1 })).items.map((track) => track.id);
