// A button that opens a list of actions. Arrow keys move, Enter chooses, Escape closes.
import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { html } from "../html.js";
import { Icon, IconButton } from "./icon.js";

const GAP = 4;

/** `items` are `{label, icon?, run}`, or a function that gives them; a false one is left out. `rest` is the button's. */
export function Menu({ label, icon = "dots", items, class: name, ...rest }) {
  const [open, setOpen] = useState(false);
  const id = useId();
  const place = useRef(null);
  const list = useRef(null);
  useLayoutEffect(() => {
    if (!open) return undefined;
    // Above everything, and not cut off by the list that the button stands in.
    list.current.showPopover();
    putBeside(list.current, place.current.querySelector("button"));
    list.current.querySelector("[role=menuitem]")?.focus({ preventScroll: true });
    const { top } = place.current.getBoundingClientRect();
    const away = (event) => place.current.contains(event.target) || setOpen(false);
    // Of what was scrolled before it opened, the browser may tell a moment later.
    const moved = () => Math.abs(place.current.getBoundingClientRect().top - top) > 1 && setOpen(false);
    addEventListener("pointerdown", away);
    addEventListener("scroll", moved, true);
    addEventListener("resize", away);
    return () => {
      removeEventListener("pointerdown", away);
      removeEventListener("scroll", moved, true);
      removeEventListener("resize", away);
    };
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
    else if (event.key !== "Tab") return event.stopPropagation();
    else return setOpen(false);
    event.preventDefault();
    event.stopPropagation();
  };
  const shown = open ? (typeof items === "function" ? items() : items).filter(Boolean) : [];
  return html`
    <div class=${`menu ${name ?? ""}`} ref=${place} onKeyDown=${onKeyDown}>
      <${IconButton} icon=${icon} label=${label} aria-haspopup="menu" aria-expanded=${open} aria-controls=${open ? id : undefined}
        onClick=${(event) => (event.stopPropagation(), setOpen(!open))} ...${rest} />
      ${open && html`<div role="menu" id=${id} aria-label=${label} ref=${list} popover="manual">
        ${shown.map((item) => html`
          <button type="button" role="menuitem" tabindex="-1" key=${item.label}
            onClick=${(event) => (event.stopPropagation(), close(), item.run())}>
            ${item.icon && html`<${Icon} name=${item.icon} size=${18} />`}${item.label}
          </button>`)}
      </div>`}
    </div>
  `;
}

/** Below the button and flush with its right end, or where there is room. */
function putBeside(list, button) {
  const [anchor, own] = [button.getBoundingClientRect(), list.getBoundingClientRect()];
  const below = anchor.bottom + GAP;
  const top = below + own.height > innerHeight ? anchor.top - GAP - own.height : below;
  list.style.top = `${Math.max(GAP, top)}px`;
  list.style.left = `${Math.max(GAP, Math.min(anchor.right - own.width, innerWidth - own.width - GAP))}px`;
}
