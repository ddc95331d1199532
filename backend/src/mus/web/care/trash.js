// What lies in the trash: back with it, or away for good.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { beside, t } from "../text.js";
import { ago, bytes, count, date, dateTime } from "../format.js";
import { useResource } from "../resource.js";
import { More, usePaged } from "../parts/paged.js";
import { Cover } from "../parts/cover.js";
import { Empty, Fault, Skeleton } from "../parts/empty.js";
import { Icon, IconButton } from "../parts/icon.js";
import { Link } from "../router.js";
import { purge, restoreTracks } from "./actions.js";

const DAY_MS = 86_400_000;
const PAGE = 100;

export function Trash() {
  const list = usePaged("/trash", undefined, { identity: (item) => item.track.id, limit: PAGE });
  const { items, error, more } = list;
  const { data: schedule } = useResource("/schedules/trash");
  // By id: a restored one leaves the list and the choice with it.
  const [chosen, setChosen] = useState(new Set());
  if (error && !items) return html`<h1>${t("nav.trash")}</h1><${Fault} error=${error} />`;
  if (!items) return html`<h1>${t("nav.trash")}</h1><${Skeleton} />`;
  if (!items.length)
    return html`<h1>${t("nav.trash")}</h1><${Empty} icon="trash" title=${t("trash.noneTitle")} text=${t("trash.none")}>
      <${Link} class="button" href="/tracks">${t("trash.toTracks")}<//>
    <//>`;
  const resting = items.filter((item) => item.state === "trashed");
  const picked = resting.filter((item) => chosen.has(item.track.id)).map((item) => item.track);
  const choose = (ids, isChosen) =>
    setChosen((before) => {
      const next = new Set(before);
      for (const id of ids) isChosen ? next.add(id) : next.delete(id);
      return next;
    });
  const size = items.reduce((sum, item) => sum + item.track.size, 0);
  return html`
    <div class="view-head">
      <h1>${t("nav.trash")}</h1>
      <button class="button danger" onClick=${() => purge()}><${Icon} name="trash" />${t("trash.empty")}</button>
    </div>
    <p class="lead">${t("trash.holds", { count: items.length, more: more ? "+" : "", size: bytes(size) })} ${keeping(schedule)}</p>
    <div class="trash-choice" role="group" aria-label=${t("trash.selection")}>
      <label class="check"><input type="checkbox" checked=${picked.length > 0 && picked.length === resting.length}
        indeterminate=${picked.length > 0 && picked.length < resting.length}
        onChange=${({ target }) => choose(resting.map((item) => item.track.id), target.checked)} />
        ${picked.length ? t("trash.chosen", { count: picked.length }) : t("trash.chooseAll")}</label>
      ${picked.length > 0 && html`
        <button class="button plain" onClick=${() => restoreTracks(picked)}><${Icon} name="restore" />${t("trash.restore")}</button>
        <button class="button plain" onClick=${() => purge(picked)}><${Icon} name="trash" />${t("trash.purge")}</button>`}
    </div>
    <ul class="trash-list">
      ${items.map((item) => html`<${Item} key=${item.track.id} item=${item} schedule=${schedule} isChosen=${chosen.has(item.track.id)} choose=${choose} />`)}
    </ul>
    <${More} list=${list} />
  `;
}

function Item({ item: { track, path, deleted_at, state }, schedule, isChosen, choose }) {
  const resting = state === "trashed";
  const goes = goesAt(deleted_at, schedule);
  return html`
    <li class="trash-item" aria-busy=${!resting}>
      <input type="checkbox" aria-label=${t("trash.choose", { title: track.title })} disabled=${!resting} checked=${isChosen}
        onChange=${({ target }) => choose([track.id], target.checked)} />
      <div class="small-cover"><${Cover} track=${track.has_cover ? track.id : null} name=${track.album ?? track.title} /></div>
      <div class="what">
        <strong class="ellipsis">${track.title}</strong>
        <span class="muted ellipsis">${beside(track.artist, track.album)}</span>
        <span class="path" title=${path}>${path}</span>
      </div>
      <div class="when muted">
        <span title=${dateTime(deleted_at)}>${t("trash.deleted", { when: ago(deleted_at) })}</span>
        <span>${goes && t("trash.goes", { when: date(goes) })}</span>
      </div>
      ${resting
        ? html`<div class="row-actions">
            <${IconButton} icon="restore" label=${t("trash.restoreOne", { title: track.title })} onClick=${() => restoreTracks([track])} />
            <${IconButton} icon="trash" label=${t("trash.purgeOne", { title: track.title })} onClick=${() => purge([track])} />
          </div>`
        : html`<span class="chip busy">${t(`trash.state.${state}`)}</span>`}
    </li>
  `;
}

/** When the schedule deletes it for good; null when nothing does. */
function goesAt(deletedAt, schedule) {
  if (!schedule?.enabled || !schedule.arguments.days) return null;
  const over = new Date(deletedAt).getTime() + schedule.arguments.days * DAY_MS;
  return new Date(Math.max(over, new Date(schedule.next_due).getTime())).toISOString();
}

function keeping(schedule) {
  if (!schedule) return "";
  return schedule.enabled ? t("trash.kept", { days: count(schedule.arguments.days) }) : t("trash.keptForGood");
}
