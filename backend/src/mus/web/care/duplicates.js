// Tracks that are there more than once, side by side: which to keep, and why.
import { html } from "../html.js";
import { beside, t } from "../text.js";
import { bytes, duration } from "../format.js";
import { More, usePaged } from "../parts/paged.js";
import { Cover } from "../parts/cover.js";
import { Empty, Fault, Skeleton } from "../parts/empty.js";
import { Icon } from "../parts/icon.js";
import { Link, at, setQuery } from "../router.js";
import { trashTracks } from "./actions.js";
import { best } from "./best_copy.js";

const KINDS = ["sound", "tags"];
const GROUPS = 20;
const idOf = (group) => group.tracks.map((track) => track.id).join();

export function Duplicates({ query }) {
  const kind = KINDS.includes(query.kind) ? query.kind : "sound";
  const list = usePaged("/duplicates", { kind }, { identity: idOf, limit: GROUPS });
  const { items, error } = list;
  return html`
    <div class="view-head">
      <h1>${t("nav.duplicates")}</h1>
      <div class="tabs" role="group" aria-label=${t("duplicates.kinds")}>
        ${KINDS.map((name) => html`<button key=${name} aria-pressed=${name === kind} onClick=${() => setQuery({ kind: name === "sound" ? null : name })}>${t(`duplicates.kind.${name}`)}</button>`)}
      </div>
    </div>
    <p class="lead">${t(`duplicates.about.${kind}`)}</p>
    ${error && !items && html`<${Fault} error=${error} />`}
    ${!items && !error && html`<${Skeleton} rows=${5} />`}
    ${items?.length === 0 && html`<${Empty} icon="check" title=${t("duplicates.noneTitle")} text=${t(`duplicates.none.${kind}`)} />`}
    ${items?.map((group) => html`<${Group} key=${idOf(group)} tracks=${group.tracks} />`)}
    <${More} list=${list} />
  `;
}

function Group({ tracks }) {
  const kept = best(tracks);
  const keep = (track) => trashTracks(tracks.filter((other) => other.id !== track.id));
  const { title, artist } = tracks[0];
  return html`
    <section class="duplicates" aria-label=${title}>
      <h2>${title} <span class="muted">${artist}</span> <span class="chip">${t("duplicates.copies", { count: tracks.length })}</span></h2>
      <ul class="copies">
        ${tracks.map((track) => html`<${Copy} key=${track.id} track=${track} reason=${kept.track === track ? kept.reason : null} keep=${() => keep(track)} />`)}
      </ul>
    </section>
  `;
}

function Copy({ track, reason, keep }) {
  const { integrity, bitrate } = track;
  return html`
    <li class=${reason ? "copy suggested" : "copy"}>
      <div class="copy-cover"><${Cover} track=${track.has_cover ? track.id : null} name=${track.album ?? track.title} /></div>
      <div class="what">
        <${Link} href=${at("tracks", String(track.id))}><strong>${track.title}</strong><//>
        <span class="muted">${beside(track.artist, track.album, track.year)}</span>
        <span class="path">${track.library} / ${track.path}</span>
      </div>
      <dl class="traits">
        <div><dt>${t("duplicates.format")}</dt><dd>${track.format?.toUpperCase()}${bitrate && `, ${t("common.bitrate", { rate: bitrate })}`}</dd></div>
        <div><dt>${t("duplicates.length")}</dt><dd>${duration(track.duration)}</dd></div>
        <div><dt>${t("duplicates.size")}</dt><dd>${bytes(track.size)}</dd></div>
        <div><dt>${t("duplicates.integrity")}</dt><dd class=${integrity === "damaged" ? "bad" : ""}>${t(`duplicates.state.${integrity ?? "unknown"}`)}</dd></div>
      </dl>
      <p class="because">${reason && html`<${Icon} name="check" size=${16} /> ${reason}`}</p>
      <button class=${reason ? "button" : "button plain"} onClick=${keep} aria-label=${t("duplicates.keepOne", { path: track.path })}>${t("duplicates.keep")}</button>
    </li>
  `;
}
