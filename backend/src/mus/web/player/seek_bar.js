// Where in the track it is, over how the track looks; another place is gone to by click, drag or keys.
import { useMemo, useRef, useState } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { duration } from "../format.js";
import { useResource } from "../resource.js";
import { length, seek, time } from "./audio.js";
import { current } from "./queue.js";
import { Waveform, outline } from "./waveform.js";

const STEPS = { ArrowLeft: -5, ArrowDown: -5, ArrowRight: 5, ArrowUp: 5, PageDown: -30, PageUp: 30 };

/** With the times beside it; `count` is how many bars the waveform is drawn with. */
export function SeekBar({ count }) {
  const { id } = current.value;
  const { data } = useResource(`/tracks/${id}/waveform`);
  const path = useMemo(() => data && outline(data, count), [data, count]);
  const [dragged, setDragged] = useState(null);
  const bar = useRef(null);
  const whole = length.value;
  const shown = Math.min(dragged ?? time.value, whole || Infinity);

  const placeOf = (event) => {
    const { left, width } = bar.current.getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - left) / width)) * whole;
  };
  const onPointerDown = (event) => {
    if (event.button || !whole) return;
    bar.current.setPointerCapture(event.pointerId);
    setDragged(placeOf(event));
  };
  const onPointerMove = (event) => {
    bar.current.style.setProperty("--pointed", placeOf(event) / whole);
    bar.current.dataset.pointed = duration(placeOf(event));
    if (dragged !== null) setDragged(placeOf(event));
  };
  const onPointerUp = (event) => {
    if (dragged === null) return;
    seek(placeOf(event));
    setDragged(null);
  };
  const onKeyDown = (event) => {
    const to = event.key === "Home" ? 0 : event.key === "End" ? whole : event.key in STEPS ? time.value + STEPS[event.key] : null;
    if (to === null || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    seek(to);
  };
  return html`
    <div class="seek-line">
      <span class="time">${duration(Math.floor(shown))}</span>
      <div class=${`seek ${path ? "drawn" : "plain"}`} ref=${bar} role="slider" tabindex="0" aria-label=${t("player.position")} aria-valuemin="0"
        aria-valuemax=${Math.floor(whole)} aria-valuenow=${Math.floor(shown)}
        aria-valuetext=${t("player.positionText", { time: duration(Math.floor(shown)), length: duration(whole) })}
        style=${{ "--part": whole ? shown / whole : 0 }} onPointerDown=${onPointerDown} onPointerMove=${onPointerMove} onPointerUp=${onPointerUp}
        onPointerCancel=${() => setDragged(null)} onKeyDown=${onKeyDown}>
        ${path ? html`<${Waveform} path=${path} count=${count} />` : html`<div class="rail"><i /></div>`}
        <b class="thumb" />
      </div>
      <span class="time">${duration(whole)}</span>
    </div>
  `;
}
