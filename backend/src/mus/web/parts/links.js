// Links to who made a track, and to the album it is on.
import { html } from "../html.js";
import { Link, at } from "../router.js";

/** Plain text where the id of the artist is not known. */
export function ArtistLink({ id, name, ...rest }) {
  if (!name) return null;
  if (!id) return html`<span class="ellipsis">${name}</span>`;
  return html`<${Link} class="ellipsis" href=${at("artists", id)} ...${rest}>${name}<//>`;
}

export function AlbumLink({ id, title, ...rest }) {
  if (!title) return null;
  if (!id) return html`<span class="ellipsis">${title}</span>`;
  return html`<${Link} class="ellipsis" href=${at("albums", id)} ...${rest}>${title}<//>`;
}
