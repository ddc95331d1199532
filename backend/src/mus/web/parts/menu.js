// A button that opens a list of actions. Arrow keys move, Enter chooses, Escape closes.
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { html } from "../html.js";
import { Icon, IconButton } from "./icon.js";

/** `items` are `{label, icon?, run}`; a false one is left out. */
export function Menu({ label, icon = "dots", items, class: name }) {
  const [open, setOpen] = useState(false);
  const id = useId();
  const place = useRef(null);
  useEffect(() => {
    if (!open) return undefined;
    place.current.querySelector("[role=menuitem]")?.focus();
    const away = (event) => place.current.contains(event.target) || setOpen(false);
    addEventListener("pointerdown", away);
    return () => removeEventListener("pointerdown", away);
  }, [open]);
  const close = () => {
    setOpen(false);
    place.current.querySelector("button").focus();
  };
  const onKeyDown = (event) => {
    if (!open) return;
    const entries = [...place.current.querySelectorAll("[role=menuitem]")];
    const here = entries.indexOf(document.activeElement);
    const to = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: entries.length - 1 }[event.key];
    if (to !== undefined) entries[(to + entries.length) % entries.length].focus();
    else if (event.key === "Escape") close();
    else if (event.key !== "Tab") return;
    else return setOpen(false);
    event.preventDefault();
    event.stopPropagation();
  };
  return html`
    <div class=${`menu ${name ?? ""}`} ref=${place} onKeyDown=${onKeyDown}>
      <${IconButton} icon=${icon} label=${label} aria-haspopup="menu" aria-expanded=${open} aria-controls=${id}
        onClick=${(event) => (event.stopPropagation(), setOpen(!open))} />
      ${open && html`<div role="menu" id=${id} aria-label=${label}>
        ${items.filter(Boolean).map((item) => html`
          <button type="button" role="menuitem" tabindex="-1" key=${item.label}
            onClick=${(event) => (event.stopPropagation(), close(), item.run())}>
            ${item.icon && html`<${Icon} name=${item.icon} size=${18} />`}${item.label}
          </button>`)}
      </div>`}
    </div>
  `;
}
