// The folders of music: whether they are there, how mus keeps in step with them, and their scans.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { del } from "../api.js";
import { count } from "../format.js";
import { refresh, useResource } from "../resource.js";
import { Link } from "../router.js";
import { Empty, Fault, Skeleton } from "../parts/empty.js";
import { confirm } from "../parts/dialog.js";
import { Icon } from "../parts/icon.js";
import { Menu } from "../parts/menu.js";
import { follow, scan } from "./actions.js";
import { inWords } from "./crontab.js";
import { LibraryForm } from "./library_form.js";
import { ScanFolder } from "./scan_folder.js";
import { Scans } from "./scans.js";

export function Libraries() {
  const { data, error } = useResource("/libraries");
  const { data: health } = useResource("/health");
  const { data: schedule } = useResource("/schedules/quick-scan");
  /** What the form is open for: a library, or "new". */
  const [edited, setEdited] = useState(null);
  const close = () => setEdited(null);
  const body = () => {
    if (error && !data) return html`<${Fault} error=${error} />`;
    if (!data) return html`<${Skeleton} rows=${4} />`;
    if (!data.items.length)
      return html`<${Empty} icon="libraries" title=${t("libraries.noneTitle")} text=${t("libraries.none")}>
        <button class="button" onClick=${() => setEdited("new")}><${Icon} name="add" />${t("libraries.add")}</button>
      <//>`;
    return html`<div class="libraries">
      ${data.items.map((library) => html`<${Library} key=${library.id} library=${library} schedule=${schedule}
        health=${health?.libraries?.find((each) => each.id === library.id)} change=${() => setEdited(library)} />`)}
    </div>`;
  };
  return html`
    <div class="view-head">
      <h1>${t("nav.libraries")}</h1>
      ${data?.items.length > 0 && html`
        <button class="button plain" onClick=${() => setEdited("new")}><${Icon} name="add" />${t("libraries.add")}</button>
        <button class="button" onClick=${() => scan()}><${Icon} name="scan" />${t("libraries.scanAll")}</button>`}
    </div>
    ${body()}
    ${edited && html`<${LibraryForm} library=${edited === "new" ? null : edited} schedule=${schedule} close=${close} />`}
  `;
}

function Library({ library, schedule, health, change }) {
  const { name, root, tracks, online, removing, watch_mode, watch_reason } = library;
  const [choosing, setChoosing] = useState(false);
  const state = removing ? ["warn", "removing"] : online ? ["good", "online"] : ["bad", "offline"];
  return html`
    <section class="card library" aria-label=${name}>
      <header>
        <${Icon} name=${online ? "libraries" : "offline"} size=${28} />
        <div><h2>${name}</h2><p class="path" title=${root}>${root}</p></div>
        <span class=${`chip ${state[0]}`}>${t(`libraries.${state[1]}`)}</span>
        <${Menu} label=${t("libraries.actionsOf", { name })} items=${[
          { label: t("libraries.change"), icon: "edit", run: change },
          { label: t("libraries.scanAFolder"), icon: "libraries", run: () => setChoosing(true) },
          { label: t("libraries.scanFull"), icon: "scan", run: () => scan({ library: name, mode: "full" }) },
          !removing && { label: t("libraries.forget"), icon: "trash", run: () => forget(library) },
        ]} />
      </header>
      ${!online && html`<${Offline} library=${library} />`}
      ${health?.writable === false && html`<p class="note warn"><${Icon} name="info" size=${18} />${t("libraries.readOnly", { reason: health.read_only_reason })}</p>`}
      <dl class="traits">
        <div><dt>${t("libraries.tracks")}</dt><dd><${Link} href=${`/tracks?library=${encodeURIComponent(name)}`}>${count(tracks)}<//></dd></div>
        <div><dt>${t("libraries.watched")}</dt><dd>${t(`libraries.watch.${watch_mode ?? "nothing"}`)}${watch_reason && html`<small>${watch_reason}</small>`}</dd></div>
        <div><dt>${t("libraries.schedule")}</dt><dd>${scheduleOf(library, schedule)}</dd></div>
        <div><dt>${t("libraries.guard")}</dt><dd>${guardOf(library)}</dd></div>
      </dl>
      <${Scans} library=${name} disabled=${removing} />
      ${choosing && html`<${ScanFolder} library=${library} close=${() => setChoosing(false)} />`}
    </section>
  `;
}

/** Why it is away, and what can be done: nothing is lost meanwhile. */
function Offline({ library }) {
  const gone = async () => {
    const agreed = await confirm({
      title: t("libraries.goneTitle", { name: library.name }),
      text: t("libraries.goneText", { count: library.tracks }),
      yes: t("libraries.goneYes"),
      dangerous: true,
    });
    if (agreed) scan({ library: library.name, confirm_missing: true });
  };
  return html`
    <div class="note bad" role="status">
      <strong>${library.offline_reason}</strong>
      <p>${t("libraries.offlineText")}</p>
      <div class="actions">
        <button class="button" onClick=${() => scan({ library: library.name })}>${t("libraries.lookAgain")}</button>
        <button class="button plain" onClick=${gone}>${t("libraries.gone")}</button>
      </div>
    </div>
  `;
}

function scheduleOf({ scan_crontab: own }, schedule) {
  if (own === "off") return t("libraries.never");
  if (own) return inWords(own);
  if (!schedule) return "";
  return html`${schedule.enabled ? inWords(schedule.crontab) : t("libraries.never")}<small>${t("libraries.common")}</small>`;
}

function guardOf({ guard_min_tracks: least, guard_fraction: fraction }) {
  if (least === null && fraction === null) return html`${t("libraries.guardCommon")}`;
  return t("libraries.guardOwn", { least: least ?? t("libraries.usual"), percent: fraction === null ? t("libraries.usual") : `${Math.round(fraction * 100)} %` });
}

async function forget(library) {
  const agreed = await confirm({
    title: t("libraries.forgetTitle", { name: library.name }),
    text: t("libraries.forgetText", { count: library.tracks, root: library.root }),
    yes: t("libraries.forgetYes"),
    dangerous: true,
  });
  if (!agreed) return;
  // Its trash stays on the disk, as the question says.
  await follow(t("libraries.forgetting", { name: library.name }), [() => del(`/libraries/${library.id}`, { query: { force: true } })], () =>
    t("libraries.forgotten", { name: library.name }),
  );
  refresh();
}
