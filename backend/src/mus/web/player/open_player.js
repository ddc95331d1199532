// The player as large as the window. The browser's way back closes it.
import { useEffect, useRef } from "preact/hooks";
import { signal } from "@preact/signals";
import { html } from "../html.js";
import { t } from "../text.js";
import { navigate } from "../router.js";
import { coverUrl } from "../api.js";
import { Cover } from "../parts/cover.js";
import { Icon, IconButton } from "../parts/icon.js";
import { Names, Transport, Volume } from "./controls.js";
import { optionsShown } from "./options.js";
import { SeekBar } from "./seek_bar.js";

const BARS = 110;

/** Whether it is open: an entry of the history at the same address. */
export const opened = signal(Boolean(history.state?.player));
addEventListener("popstate", () => {
  opened.value = Boolean(history.state?.player);
});

export function openPlayer() {
  if (opened.value) return;
  history.pushState({ ...history.state, player: true }, "");
  opened.value = true;
}

/** Close it; then go to `address`, if one is given. */
function close(address) {
  if (address) addEventListener("popstate", () => navigate(address), { once: true });
  history.back();
}

export function OpenPlayer({ entry, children }) {
  const dialog = useRef(null);
  useEffect(() => {
    const back = document.activeElement;
    dialog.current.showModal();
    dialog.current.querySelector(".play-button").focus();
    return () => back?.focus?.();
  }, []);
  const onCancel = (event) => {
    event.preventDefault();
    close();
  };
  // What lies behind is reached by closing it first.
  const onClick = (event) => {
    const link = event.target.closest("a[href]");
    if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    close(link.getAttribute("href"));
  };
  const cover = entry.has_cover ? entry.id : null;
  return html`
    <dialog class="open-player" ref=${dialog} aria-label=${t("player.title")} onCancel=${onCancel} onClickCapture=${onClick}>
      ${cover && html`<img class="glow" src=${coverUrl(cover)} alt="" aria-hidden="true" />`}
      <header>
        <${IconButton} icon="down" size=${26} label=${t("player.shrink")} onClick=${() => close()} />
        <span class="album ellipsis">${entry.album}</span>
        <${IconButton} icon="sound" label=${t("player.options")} onClick=${() => (optionsShown.value = true)} />
      </header>
      <${Cover} key=${entry.id} track=${cover} name=${entry.album ?? entry.title} size=${1000} lazy=${false} />
      <div class="below">
        <${Names} entry=${entry} />
        <${SeekBar} count=${BARS} />
        <${Transport} size=${26} />
        <div class="last">
          <${Volume} />
          <a class="button plain" href="/queue"><${Icon} name="queue" /> ${t("player.queue")}</a>
        </div>
      </div>
      ${children}
    </dialog>
  `;
}
