// A modal window, of the browser's own kind: it holds the focus, and Escape closes it.
import { render } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { IconButton } from "./icon.js";

export function Dialog({ title, close, children, wide = false }) {
  const dialog = useRef(null);
  useEffect(() => {
    const back = document.activeElement;
    dialog.current.showModal();
    return () => back?.focus?.();
  }, []);
  const onClick = (event) => event.target === dialog.current && close();
  return html`
    <dialog class=${wide ? "dialog wide" : "dialog"} ref=${dialog} aria-label=${title} onClose=${close} onClick=${onClick}>
      <header><h2>${title}</h2><${IconButton} icon="close" label=${t("common.close")} onClick=${close} /></header>
      ${children}
    </dialog>
  `;
}

/** Ask before something that is hard to take back. Resolves to whether the person agreed; the way back says no. */
export function confirm({ title, text, yes, dangerous = false }) {
  return new Promise((resolve) => {
    const place = document.body.appendChild(document.createElement("div"));
    const no = () => answer(false);
    const answer = (agreed) => {
      removeEventListener("popstate", no);
      render(null, place);
      place.remove();
      resolve(agreed);
    };
    addEventListener("popstate", no);
    render(
      html`<${Dialog} title=${title} close=${no}>
        <p>${text}</p>
        <div class="actions">
          <button class="button plain" onClick=${no}>${t("common.cancel")}</button>
          <button class=${dangerous ? "button danger" : "button"} onClick=${() => answer(true)}>${yes}</button>
        </div>
      <//>`,
      place,
    );
  });
}
