// The whole page takes files that are dropped on it, and leads to the uploads.
import { useEffect, useState } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { navigate } from "../router.js";
import { Icon } from "../parts/icon.js";
import { filesOfDrop, hasFiles } from "./dropped.js";
import { add } from "./uploads.js";

export function DropPlace() {
  const [over, setOver] = useState(false);
  useEffect(() => {
    let depth = 0; // an enter of each element comes before the leave of the one before
    const show = (change) => {
      depth = Math.max(0, depth + change);
      setOver(depth > 0);
    };
    const handlers = {
      dragenter: (event) => hasFiles(event) && show(1),
      dragleave: (event) => hasFiles(event) && show(-1),
      dragover: (event) => hasFiles(event) && event.preventDefault(),
      drop: async (event) => {
        depth = 0;
        setOver(false);
        // Another part of the page, as a cover's place, may have taken it.
        if (!hasFiles(event) || event.defaultPrevented) return;
        event.preventDefault();
        const files = filesOfDrop(event.dataTransfer);
        if (location.pathname !== "/upload") navigate("/upload");
        add(await files);
      },
    };
    for (const [type, handler] of Object.entries(handlers)) addEventListener(type, handler);
    return () => {
      for (const [type, handler] of Object.entries(handlers)) removeEventListener(type, handler);
    };
  }, []);
  return html`<div class="drop-over" aria-hidden="true" hidden=${!over}><div><${Icon} name="upload" size=${56} /><strong>${t("upload.dropHere")}</strong></div></div>`;
}
