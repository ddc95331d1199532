// Which files belong together: those of one folder.

/** Of one batch (library/staged_uploads.py). */
const MOST = 5_000;

/** Give each file that came in a folder its batch, `{id, name, items}`. A folder of more is one batch for each below it. */
export function batchesOf(items) {
  const inFolders = items.filter(({ path }) => path.includes("/"));
  for (const [name, members] of grouped(inFolders, ({ path }) => path.split("/")[0])) {
    const groups = members.length <= MOST ? [[name, members]] : grouped(members, ({ path }) => path.slice(0, path.lastIndexOf("/")));
    for (const [group, all] of groups)
      for (let first = 0; first < all.length; first += MOST) {
        const batch = { id: newId(), name: group, items: all.slice(first, first + MOST) };
        for (const item of batch.items) item.batch = batch;
      }
  }
}

/**
 * Where a file of a batch goes that lies beside music which was named by its tags: to that, or to what lies nearest.
 * Null while none of it has a place.
 */
export function besideMusic({ path, batch }) {
  for (let end = path.lastIndexOf("/"); end > 0; end = path.lastIndexOf("/", end - 1)) {
    const music = batch.items.find((item) => item.isMusic && item.place && item.path.startsWith(path.slice(0, end + 1)));
    if (music) return music.place.slice(0, music.place.lastIndexOf("/") + 1) + path.slice(end + 1);
  }
  return null;
}

/** "Artist/01 Title.mp3" as "Artist/01 Title (2).mp3" */
export const numbered = (path, number) => path.replace(/(\.[^./]*)$|$/, (suffix) => ` (${number})${suffix}`);

function grouped(items, keyOf) {
  const groups = new Map();
  for (const item of items) {
    if (!groups.has(keyOf(item))) groups.set(keyOf(item), []);
    groups.get(keyOf(item)).push(item);
  }
  return groups;
}

// crypto.randomUUID is there on HTTPS alone.
const newId = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
