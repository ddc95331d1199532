// A modal window, of the browser's own kind: it holds the focus, and Escape closes it.
import { render } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { IconButton } from "./icon.js";

export function Dialog({ title, close, children, wide = false }) {
  const dialog = useRef(null);
  // At once, both ways: an effect's end comes a moment late, and would take the focus from what has it by then.
  useLayoutEffect(() => {
    const [back, element] = [document.activeElement, dialog.current];
    element.showModal();
    return () => {
      element.close(); // while it is modal nothing else takes the focus
      back?.focus?.();
    };
  }, []);
  const onClose = ({ target }) => target.isConnected && close();
  const onClick = (event) => event.target === dialog.current && close();
  return html`
    <dialog class=${wide ? "dialog wide" : "dialog"} ref=${dialog} aria-label=${title} onClose=${onClose} onClick=${onClick}>
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
