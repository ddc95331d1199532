// What is to be said of a track that cannot be heard as it should.
import { html } from "../html.js";
import { t } from "../text.js";
import { Icon } from "./icon.js";

/** Whether there is no file to play or to change. */
export const isGone = ({ status }) => status === "MISSING" || status === "TRASHED";

/** Nothing for tracks that are in order. */
export function TrackState({ track }) {
  if (isGone(track)) return html`<span class="chip warn">${t(`library.status.${track.status}`)}</span>`;
  if (track.status !== "ERROR") return null;
  return html`<span class="chip bad" title=${track.error?.message}><${Icon} name="failures" size=${14} /> ${t("library.status.ERROR")}</span>`;
}
