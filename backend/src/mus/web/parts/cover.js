// A cover, or a quiet picture of its own where there is none or it cannot be fetched.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { coverUrl } from "../api.js";
import { Icon } from "./icon.js";

/** Names that differ in their last letter get colours that are far apart. */
const SPREAD = 137;

/** `track` is the id of the track whose cover is shown, null for none; `name` gives the substitute its colour. */
export function Cover({ track, name = "", size = 300, lazy = true, icon = "albums" }) {
  const [failed, setFailed] = useState(null);
  const hue = [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);
  if (track === null || track === undefined || failed === track)
    return html`<div class="cover none" style=${{ "--hue": (hue * SPREAD) % 360 }}><${Icon} name=${icon} size="40%" /></div>`;
  return html`<img class="cover" src=${coverUrl(track, size)} alt="" loading=${lazy ? "lazy" : "eager"} decoding="async" draggable=${false} onError=${() => setFailed(track)} />`;
}
