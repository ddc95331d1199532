// Line icons, 24 by 24, drawn here: each is the `d` of one path.
import { html } from "../html.js";

const PATHS = {
  mus: "M5 11v2M9 8v8M13 4v16M17 8v8M21 11v2",
  albums: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18ZM12 14a2 2 0 1 0 0-4 2 2 0 0 0 0 4Z",
  artists: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM4 21c0-4 3.5-6 8-6s8 2 8 6",
  tracks: "M9 18V5l11-2v13M9 18a3 3 0 1 1-3-3 3 3 0 0 1 3 3ZM20 16a3 3 0 1 1-3-3 3 3 0 0 1 3 3Z",
  recent: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18ZM12 7v5l3 2",
  jobs: "M3 12h4l3-8 4 16 3-8h4",
  failures: "M12 3 2 20h20L12 3ZM12 10v4M12 17v.5",
  workers: "M4 5h16v6H4zM4 13h16v6H4zM7 8h.5M7 16h.5",
  libraries: "M3 7a2 2 0 0 1 2-2h4l2 2h8a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2Z",
  upload: "M12 16V4M7 9l5-5 5 5M4 20h16",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
  duplicates: "M8 8h12v12H8zM4 16V4h12",
  settings: "M12 15a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM12 3v3M12 18v3M3 12h3M18 12h3M5.6 5.6l2.2 2.2M16.2 16.2l2.2 2.2M18.4 5.6l-2.2 2.2M7.8 16.2l-2.2 2.2",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14ZM16 16l5 5",
  more: "M4 7h16M4 12h16M4 17h16",
  play: "M7 4v16l13-8Z",
  pause: "M8 5v14M16 5v14",
  next: "M5 5v14l10-7ZM19 5v14",
  previous: "M19 5v14L9 12ZM5 5v14",
  shuffle: "M3 7h4l10 10h4M3 17h4l3-3M14 10l3-3h4M18 4l3 3-3 3M18 14l3 3-3 3",
  repeat: "M17 2l4 4-4 4M3 11V9a3 3 0 0 1 3-3h15M7 22l-4-4 4-4M21 13v2a3 3 0 0 1-3 3H3",
  repeatOne: "M17 2l4 4-4 4M3 11V9a3 3 0 0 1 3-3h15M7 22l-4-4 4-4M21 13v2a3 3 0 0 1-3 3H3M11 10.500l1.500-1V15",
  sound: "M4 7h9M19 7h1M16 7m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0M4 17h1M11 17h9M8 17m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0",
  grip: "M9 6v.5M15 6v.5M9 12v.5M15 12v.5M9 18v.5M15 18v.5",
  volume: "M4 9v6h4l5 4V5L8 9ZM16 9a4 4 0 0 1 0 6M19 6a8 8 0 0 1 0 12",
  muted: "M4 9v6h4l5 4V5L8 9ZM17 9l5 6M22 9l-5 6",
  queue: "M3 6h13M3 11h13M3 16h8M17 14v6l5-3Z",
  edit: "M4 20h4L19 9l-4-4L4 16ZM13 7l4 4",
  scan: "M20 11a8 8 0 1 0-2 6M20 5v6h-6",
  check: "M4 12l5 5L20 6",
  close: "M5 5l14 14M19 5 5 19",
  down: "M6 9l6 6 6-6",
  up: "M6 15l6-6 6 6",
  back: "M15 5l-7 7 7 7",
  forward: "M9 5l7 7-7 7",
  add: "M12 5v14M5 12h14",
  dots: "M12 5v.5M12 12v.5M12 19v.5",
  filter: "M3 5h18l-7 8v6l-4 2v-8Z",
  restore: "M4 12a8 8 0 1 0 3-6L4 8M4 3v5h5",
  info: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18ZM12 11v5M12 8v.5",
  offline: "M3 3l18 18M7 7H5a2 2 0 0 0-2 2v8a2 2 0 0 0 2 2h12M21 15V9a2 2 0 0 0-2-2h-8L9 5",
  stop: "M6 6h12v12H6Z",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.5 1.5M17.5 17.5 19 19M19 5l-1.5 1.5M6.500 17.500 5 19",
  signOut: "M14 4h5v16h-5M3 12h11M10 8l4 4-4 4",
};
const FILLED = new Set(["play", "next", "previous", "stop"]);

/** Decoration only: whatever it stands for is said in text beside it or on its button. */
export function Icon({ name, size = 20 }) {
  return html`<svg class=${FILLED.has(name) ? "icon filled" : "icon"} viewBox="0 0 24 24" width=${size} height=${size} aria-hidden="true" focusable="false">
    <path d=${PATHS[name] ?? PATHS.info} />
  </svg>`;
}

/** A button that shows an icon and says `label`. */
export function IconButton({ icon, label, size, class: name = "", ...rest }) {
  return html`<button type="button" class=${`icon-button ${name}`} aria-label=${label} title=${label} ...${rest}><${Icon} name=${icon} size=${size} /></button>`;
}
