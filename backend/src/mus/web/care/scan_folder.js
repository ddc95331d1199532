// Choosing the folder of a library that is to be scanned: by typing its path, or from folder to folder.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { useResource } from "../resource.js";
import { Dialog } from "../parts/dialog.js";
import { Icon } from "../parts/icon.js";
import { scan } from "./actions.js";

/** Folders that are shown; of more, those are found that begin as is typed. */
const SHOWN = 100;

export function ScanFolder({ library, close }) {
  const [path, setPath] = useState("");
  const above = path.slice(0, path.lastIndexOf("/") + 1);
  const begun = path.slice(above.length).toLowerCase();
  const { data, error } = useResource(`/libraries/${library.id}/folders`, { path: above });
  const found = (data?.items ?? []).filter((name) => name.toLowerCase().startsWith(begun));
  const submit = (event) => {
    event.preventDefault();
    close();
    scan({ library: library.name, path: path.replace(/\/+$/, "") || undefined });
  };
  return html`
    <${Dialog} title=${t("libraries.scanFolderOf", { name: library.name })} close=${close}>
      <form class="form" onSubmit=${submit}>
        <label class="field"><span>${t("libraries.folder")}</span>
          <input type="text" autofocus maxlength="4000" spellcheck=${false} autocomplete="off" placeholder=${t("libraries.folderAll")} value=${path} onInput=${({ target }) => setPath(target.value)} /></label>
        ${error && html`<p class="fault-text" role="alert">${error.message}</p>`}
        <ul class="folders" aria-label=${t("libraries.folders")}>
          ${!error && found.slice(0, SHOWN).map((name) => html`<li key=${name}><button type="button" onClick=${() => setPath(`${above}${name}/`)}><${Icon} name="libraries" size=${18} />${name}</button></li>`)}
        </ul>
        ${found.length > SHOWN && html`<p class="muted">${t("libraries.furtherFolders", { count: found.length - SHOWN })}</p>`}
        <div class="actions">
          <button type="button" class="button plain" onClick=${close}>${t("common.cancel")}</button>
          <button class="button">${t("libraries.scanFolder")}</button>
        </div>
      </form>
    <//>
  `;
}
