// What a library without music says: where the music is looked for, and what is found there just now.
import { html } from "../html.js";
import { t } from "../text.js";
import { Link } from "../router.js";
import { useResource } from "../resource.js";
import { running } from "../live.js";
import { scan } from "../care/actions.js";
import { Empty, Fault } from "../parts/empty.js";
import { Icon } from "../parts/icon.js";
import { Progress } from "../parts/progress.js";

const SCAN = "scan_library";

/** Shown by a view of `of` ("albums", "artists" or "tracks") that has none, with nothing that narrows it. */
export function FirstRun({ title, of }) {
  const { data: facets, error, loading } = useResource("/facets");
  const { data: libraries } = useResource("/libraries");
  const tracks = (facets?.statuses ?? []).reduce((sum, status) => sum + status.tracks, 0);
  if (error && !facets) return html`<h1>${title}</h1><${Fault} error=${error} />`;
  if (!facets || !libraries || (loading && tracks)) return html`<h1>${title}</h1>`;
  if (tracks > 0)
    return html`<h1>${title}</h1><${Empty} icon=${of} title=${t(`library.none.${of}`)} text=${t("library.noneText", { count: tracks })}>
      <${Link} class="button" href="/tracks">${t("library.toTracks")}<//>
    <//>`;
  return html`
    <div class="first-run">
      <${Icon} name="mus" size=${64} />
      <h1>${t("library.welcome")}</h1>
      <p class="muted">${t("library.welcomeText")}</p>
      <ul class="folders">${libraries.items.map((library) => html`<${Folder} key=${library.id} library=${library} />`)}</ul>
      <${ScanState} />
      <div class="actions">
        <button type="button" class="button" onClick=${() => scan()}><${Icon} name="scan" /> ${t("library.scanNow")}</button>
        <${Link} class="button plain" href="/upload"><${Icon} name="upload" /> ${t("nav.upload")}<//>
        <${Link} class="button plain" href="/libraries"><${Icon} name="libraries" /> ${t("library.folders")}<//>
      </div>
      <p class="muted hint">${t("library.whereSet")}</p>
    </div>
  `;
}

function Folder({ library }) {
  return html`<li class="card">
    <${Icon} name=${library.online ? "libraries" : "offline"} size=${24} />
    <div>
      <code>${library.root}</code>
      <p class=${library.online ? "muted" : "bad"}>${library.online ? t("library.folderEmpty") : (library.offline_reason ?? t("library.folderOffline"))}</p>
    </div>
  </li>`;
}

/** How far a scan is, while one runs. */
function ScanState() {
  const job = running.value.find(({ task }) => task === SCAN);
  const text = job ? t("library.scanning", { count: job.details.units_total ?? 0, done: job.details.units_done ?? 0 }) : "";
  return html`<div class="scan-state" role="status">
    ${job && html`<p>${text}</p><${Progress} value=${job.progress > 0 ? job.progress : null} label=${text} />`}
  </div>`;
}
