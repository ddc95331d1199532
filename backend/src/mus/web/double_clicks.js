// A double click on a button is one click: what it starts, it starts once, and what comes up in its place is not hit.

/** Here one click after the other is meant. */
const SINGLY = ".player, .queue-row, .toasts";

const startsWork = (target) => Boolean(target.closest?.("button")) && !target.closest(SINGLY);
/** Whether the clicks that follow each other now began on such a button. */
let began = false;

function swallow(event) {
  event.preventDefault();
  event.stopPropagation();
}

// Nor does it mark the text that came up in its place.
addEventListener("mousedown", (event) => event.detail > 1 && began && event.preventDefault(), { capture: true });

addEventListener(
  "click",
  (event) => {
    if (event.detail <= 1) began = startsWork(event.target);
    else if (began) swallow(event);
  },
  { capture: true },
);

// A key that is held down clicks again and again.
addEventListener("keydown", (event) => event.key === "Enter" && event.repeat && startsWork(event.target) && swallow(event), { capture: true });
