// What was changed in a track's file, with a way back.
import { html } from "../html.js";
import { t } from "../text.js";
import { post } from "../api.js";
import { dateTime } from "../format.js";
import { refresh, useResource } from "../resource.js";
import { follow } from "../care/actions.js";
import { doing } from "../parts/track_actions.js";

export function EditHistory({ track }) {
  const { data } = useResource(`/tracks/${track.id}/edits`);
  if (!data?.items.length) return null;
  return html`<section><h3>${t("library.history")}</h3>
    <ol class="edits">${data.items.map((edit) => html`<${Edit} key=${edit.id} edit=${edit} />`)}</ol>
  </section>`;
}

function Edit({ edit }) {
  const undo = async () => {
    await follow(t("edit.undoing"), [() => post(`/edits/${edit.id}/undo`)], () => t("library.undone"));
    refresh(`/tracks/${edit.track_id}`);
  };
  return html`<li>
    <p><time datetime=${edit.at}>${dateTime(edit.at)}</time> <span class="muted">${edit.undoes ? t("library.undid") : edit.requested_by}</span>
      ${edit.undone_by
        ? html`<span class="chip">${t("library.undone")}</span>`
        : html`<button type="button" class="text-button" onClick=${doing(undo)}>${t("common.undo")}</button>`}</p>
    <dl>${changesOf(edit).map(([name, before, after]) => html`<div key=${name}>
      <dt>${name}</dt><dd><del>${before}</del> <span aria-hidden="true">→</span> <ins>${after}</ins></dd>
    </div>`)}</dl>
  </li>`;
}

/** `[name, before, after]` of all that an edit changed. */
function changesOf({ before, after }) {
  const nothing = t("common.none");
  const changes = Object.keys(after.tags).map((name) => [name, before.tags[name]?.join(", ") || nothing, after.tags[name].join(", ") || nothing]);
  if (after.path !== null) changes.push([t("library.fact.path"), before.path, after.path]);
  if (after.pictures !== null) {
    const pictures = ({ pictures: of }) => t("library.pictures", { count: of?.length ?? 0 });
    changes.push([t("library.cover"), pictures(before), pictures(after)]);
  }
  return changes;
}
