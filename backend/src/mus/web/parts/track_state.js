// What is to be said of a track that cannot be heard as it should.
import { html } from "../html.js";
import { t } from "../text.js";
import { Icon } from "./icon.js";

/** Nothing for tracks that are in order. */
export function TrackState({ track }) {
  if (track.status === "MISSING") return html`<span class="chip warn">${t("library.status.MISSING")}</span>`;
  if (track.status !== "ERROR") return null;
  return html`<span class="chip bad" title=${track.error?.message}><${Icon} name="failures" size=${14} /> ${t("library.status.ERROR")}</span>`;
}
