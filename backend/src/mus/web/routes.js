// Addresses and their views. api/web_page.py names the first parts too: the server shows the page at those alone.
import { t } from "./text.js";
import { Albums } from "./views/albums.js";
import { Album } from "./views/album.js";
import { Artists } from "./views/artists.js";
import { Artist } from "./views/artist.js";
import { Tracks } from "./views/tracks.js";
import { Recent } from "./views/recent.js";
import { Search } from "./views/search.js";
import { More } from "./views/more.js";
import { Queue } from "./player/queue_view.js";
import { Jobs } from "./views/jobs.js";
import { Job } from "./views/job.js";
import { Failures } from "./views/failures.js";
import { Workers } from "./views/workers.js";
import { Libraries } from "./care/libraries.js";
import { Upload } from "./care/upload.js";
import { Edit } from "./care/edit.js";
import { Trash } from "./care/trash.js";
import { Duplicates } from "./care/duplicates.js";
import { Settings } from "./care/settings.js";

/** By the address's parts; one that begins with a colon is handed to the view under its name. */
const ROUTES = {
  "/": [Albums, "nav.albums"],
  "/albums": [Albums, "nav.albums"],
  "/albums/:id": [Album, "nav.albums"],
  "/artists": [Artists, "nav.artists"],
  "/artists/:id": [Artist, "nav.artists"],
  "/tracks": [Tracks, "nav.tracks"],
  "/tracks/:id": [Tracks, "nav.tracks"],
  "/recent": [Recent, "nav.recent"],
  "/search": [Search, "nav.search"],
  "/more": [More, "nav.more"],
  "/queue": [Queue, "player.queue"],
  "/jobs": [Jobs, "nav.jobs"],
  "/jobs/:id": [Job, "nav.jobs"],
  "/failures": [Failures, "nav.failures"],
  "/workers": [Workers, "nav.workers"],
  "/libraries": [Libraries, "nav.libraries"],
  "/upload": [Upload, "nav.upload"],
  "/edit": [Edit, "edit.title"],
  "/trash": [Trash, "nav.trash"],
  "/duplicates": [Duplicates, "nav.duplicates"],
  "/settings": [Settings, "nav.settings"],
};

/** Addresses that show something in front of another view, which stays as it is behind it. */
const IN_FRONT = { "/tracks/:id": "/tracks" };

const compiled = Object.entries(ROUTES).map(([path, [view, title]]) => ({ path, parts: path.split("/"), view, title }));

/** Null for what nothing on this page was called by: an address may be typed, or cut off. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}

/** `{view, title, params, place}` of an address; without a view where there is none. Where `place` stays, the view does. */
export function viewOf(path) {
  const parts = path.replace(/(.)\/$/, "$1").split("/");
  for (const found of compiled) {
    if (found.parts.length !== parts.length) continue;
    const params = {};
    const fits = found.parts.every((part, i) => {
      if (!part.startsWith(":")) return part === parts[i];
      params[part.slice(1)] = decoded(parts[i]);
      return params[part.slice(1)];
    });
    if (fits) return { view: found.view, title: t(found.title), params, place: IN_FRONT[found.path] ?? path };
  }
  return { view: null, title: t("app.notFoundTitle"), params: {}, place: path };
}
