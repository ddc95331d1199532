// Tracks that are there more than once, side by side: which to keep, and why.
import { html } from "../html.js";
import { t } from "../text.js";
import { bytes, duration } from "../format.js";
import { refresh, useResource } from "../resource.js";
import { More, usePaged } from "../parts/paged.js";
import { Cover } from "../parts/cover.js";
import { Empty, Fault, Skeleton } from "../parts/empty.js";
import { Icon } from "../parts/icon.js";
import { Link, at, setQuery } from "../router.js";
import { someAtOnce } from "./some_at_once.js";
import { trashTracks } from "./actions.js";
import { best } from "./best_copy.js";
import { get } from "../api.js";
import { useEffect, useState } from "preact/hooks";

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
    ${error && !items && html`<${Fault} error=${error} retry=${() => refresh("/duplicates")} />`}
    ${!items && !error && html`<${Skeleton} rows=${5} />`}
    ${items?.length === 0 && html`<${Empty} icon="check" title=${t("duplicates.noneTitle")} text=${t(`duplicates.none.${kind}`)} />`}
    ${items?.map((group) => html`<${Group} key=${idOf(group)} tracks=${group.tracks} />`)}
    <${More} list=${list} />
  `;
}

function Group({ tracks: listed }) {
  const [tracks, setTracks] = useState(null);
  useEffect(() => {
    let isMeant = true;
    // Bit rate and integrity are told of single tracks alone.
    someAtOnce(listed, (track) => get(`/tracks/${track.id}`)).then((found) => {
      if (isMeant) setTracks(found.map(({ value }, index) => value ?? listed[index]));
    });
    return () => {
      isMeant = false;
    };
  }, [listed]);
  const shown = tracks?.length === listed.length ? tracks : listed;
  const kept = tracks && best(shown);
  const keep = (track) => trashTracks(shown.filter((other) => other.id !== track.id));
  const { title, artist } = listed[0];
  return html`
    <section class="duplicates" aria-label=${title}>
      <h2>${title} <span class="muted">${artist}</span> <span class="chip">${t("duplicates.copies", { count: listed.length })}</span></h2>
      <ul class="copies">
        ${shown.map((track) => html`<${Copy} key=${track.id} track=${track} reason=${kept?.track === track ? kept.reason : null} keep=${() => keep(track)} />`)}
      </ul>
    </section>
  `;
}

function Copy({ track, reason, keep }) {
  const { integrity, bitrate } = track;
  const isKnown = integrity !== undefined; // else its details are under way
  return html`
    <li class=${reason ? "copy suggested" : "copy"}>
      <div class="copy-cover"><${Cover} track=${track.has_cover ? track.id : null} name=${track.album ?? track.title} /></div>
      <div class="what">
        <${Link} href=${at("tracks", String(track.id))}><strong>${track.title}</strong><//>
        <span class="muted">${[track.artist, track.album, track.year].filter(Boolean).join(" · ")}</span>
        <span class="path">${track.library} / ${track.path}</span>
      </div>
      <dl class="traits">
        <div><dt>${t("duplicates.format")}</dt><dd>${track.format?.toUpperCase()}${bitrate ? `, ${bitrate} kbit/s` : ""}</dd></div>
        <div><dt>${t("duplicates.length")}</dt><dd>${duration(track.duration)}</dd></div>
        <div><dt>${t("duplicates.size")}</dt><dd>${bytes(track.size)}</dd></div>
        <div><dt>${t("duplicates.integrity")}</dt><dd class=${integrity?.state === "damaged" ? "bad" : ""} title=${integrity?.notes.join(", ")}>${isKnown ? t(`duplicates.state.${integrity?.state ?? "unknown"}`) : "…"}</dd></div>
      </dl>
      <p class="because">${reason && html`<${Icon} name="check" size=${16} /> ${reason}`}</p>
      <button class=${reason ? "button" : "button plain"} onClick=${keep} aria-label=${t("duplicates.keepOne", { path: track.path })}>${t("duplicates.keep")}</button>
    </li>
  `;
}
