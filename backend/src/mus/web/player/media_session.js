// What shows outside of the page: the lock screen, media keys, the window's title, and what a screen reader says.
import { effect, signal, untracked } from "@preact/signals";
import { coverUrl } from "../api.js";
import { beside, t } from "../text.js";
import { viewTitle } from "../router.js";
import { length, next, previous, seek, seekBy, time, trouble } from "./audio.js";
import { current, playing } from "./queue.js";

/** Read out when it changes. */
export const announcement = signal("");
const SEEK_SECONDS = 10;
const session = navigator.mediaSession;

effect(() => {
  const entry = current.value;
  const heard = entry && playing.value;
  if (heard) document.title = beside(entry.title, entry.artist, "mus");
  else if (viewTitle.value) document.title = `${viewTitle.value} · mus`;
});

let announced = null;
effect(() => {
  const entry = current.value;
  if (!entry || !playing.value || entry.key === announced) return;
  announced = entry.key;
  announcement.value = t(entry.artist ? "player.nowPlayingBy" : "player.nowPlaying", { title: entry.title, artist: entry.artist });
});

let troubled = false;
effect(() => {
  if (trouble.value) announcement.value = trouble.value;
  else if (troubled && untracked(() => playing.value)) announcement.value = t("player.resumed");
  troubled = trouble.value !== null;
});

if (session) {
  const ACTIONS = {
    play: () => (playing.value = Boolean(current.value)),
    pause: () => (playing.value = false),
    stop: () => (playing.value = false),
    previoustrack: previous,
    nexttrack: next,
    seekto: ({ seekTime }) => seek(seekTime),
    seekbackward: ({ seekOffset }) => seekBy(-(seekOffset || SEEK_SECONDS)),
    seekforward: ({ seekOffset }) => seekBy(seekOffset || SEEK_SECONDS),
  };
  for (const [action, run] of Object.entries(ACTIONS)) {
    try {
      session.setActionHandler(action, run);
    } catch {
      // A browser knows some of them only.
    }
  }

  effect(() => {
    const entry = current.value;
    session.metadata = entry && new MediaMetadata({
      title: entry.title,
      artist: entry.artist ?? "",
      album: entry.album ?? "",
      artwork: entry.has_cover ? [300, 1000].map((size) => ({ src: coverUrl(entry.id, size), sizes: `${size}x${size}`, type: "image/webp" })) : [],
    });
  });

  effect(() => {
    session.playbackState = !current.value ? "none" : playing.value ? "playing" : "paused";
  });

  // The system counts on by itself: it is told anew when that does not hold any more.
  let said = { at: 0, position: -1, sounds: false };
  effect(() => {
    const [duration, position, sounds] = [length.value, Math.min(time.value, length.value), playing.value];
    const now = performance.now() / 1000;
    const expected = said.position + (said.sounds ? now - said.at : 0);
    if (said.sounds === sounds && said.duration === duration && Math.abs(expected - position) < 1) return;
    said = { at: now, position, sounds, duration };
    if (duration > 0) session.setPositionState?.({ duration, position, playbackRate: 1 });
    else session.setPositionState?.();
  });
}
