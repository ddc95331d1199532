// Everything that is known of one track, at an address of its own.
import { html } from "../html.js";
import { beside, t } from "../text.js";
import { bytes, dateTime, duration } from "../format.js";
import { canGoBack, navigate } from "../router.js";
import { useResource } from "../resource.js";
import { Cover } from "../parts/cover.js";
import { Dialog } from "../parts/dialog.js";
import { Empty, Fault, Skeleton } from "../parts/empty.js";
import { Icon } from "../parts/icon.js";
import { AlbumLink, ArtistLink } from "../parts/links.js";
import { Menu } from "../parts/menu.js";
import { playFrom, trackItems } from "../parts/track_actions.js";
import { TrackState, isGone } from "../parts/track_state.js";
import { outline } from "../player/waveform.js";
import { EditHistory } from "./edit_history.js";

const BARS = 160;
const close = () => (canGoBack() ? history.back() : navigate(`/tracks${location.search}`, { replace: true }));

export function TrackDetails({ id }) {
  const { data: track, error } = useResource(`/tracks/${encodeURIComponent(id)}`);
  return html`<${Dialog} title=${t("library.trackDetails")} close=${close} wide>
    ${track
      ? html`<${Details} track=${track} />`
      : error
        ? error.status === 404 || error.status === 422
          ? html`<${Empty} icon="tracks" title=${t("library.trackGone")} text=${t("library.trackGoneText")} />`
          : html`<${Fault} error=${error} />`
        : html`<${Skeleton} rows=${5} />`}
  <//>`;
}

function Details({ track }) {
  return html`
    <div class="track-details">
      <div class="hero small">
        <${Cover} track=${track.has_cover ? track.id : null} name=${track.album ?? track.title} lazy=${false} />
        <div>
          <h3>${track.title}</h3>
          <p><${ArtistLink} id=${track.artist_id} name=${track.artist} /></p>
          <p class="muted"><${AlbumLink} id=${track.album_id} title=${track.album} /></p>
          <p><${TrackState} track=${track} /> ${track.error && html`<span class="muted">${track.error.message}</span>`}</p>
          <div class="actions">
            <button type="button" class="button" disabled=${isGone(track)} onClick=${() => playFrom([track])}><${Icon} name="play" /> ${t("library.play")}</button>
            <${Menu} label=${t("library.more", { title: track.title })} items=${() => trackItems(track).filter((item) => item && item.icon !== "info")} />
          </div>
        </div>
      </div>
      <${Sound} track=${track} />
      <${Facts} title=${t("library.tags")} facts=${tagsOf(track)} />
      <${Facts} title=${t("library.file")} facts=${fileOf(track)} />
      <${Facts} title=${t("library.sound")} facts=${soundOf(track)} />
      ${track.integrity?.notes.length > 0 && html`<ul class="notes">${track.integrity.notes.map((note) => html`<li key=${note}>${note}</li>`)}</ul>`}
      ${track.lyrics && html`<section><h3>${t("library.lyrics")}</h3><p class="lyrics">${track.lyrics}</p></section>`}
      <${EditHistory} track=${track} />
    </div>
  `;
}

function Sound({ track }) {
  const { data } = useResource(track.status === "COMPLETE" ? `/tracks/${track.id}/waveform` : null);
  if (!data) return null;
  return html`<svg class="track-wave" viewBox=${`0 0 ${BARS} 2`} preserveAspectRatio="none" role="img" aria-label=${t("library.waveform")}>
    <path d=${outline(data, BARS)} />
  </svg>`;
}

/** `facts` are names of texts with their values; what has none is left out. */
function Facts({ title, facts }) {
  const known = Object.entries(facts).filter(([, value]) => value !== null && value !== undefined && value !== "");
  if (!known.length) return null;
  return html`<section><h3>${title}</h3><dl class="facts-list">
    ${known.map(([name, value]) => html`<div key=${name}><dt>${t(`library.fact.${name}`)}</dt><dd>${value}</dd></div>`)}
  </dl></section>`;
}

const of = (number, total) => (number && total ? `${number} / ${total}` : (number ?? ""));
const decibels = (value, unit = "dB") => (value === null || value === undefined ? "" : `${value.toFixed(1)} ${unit}`);
const known = (values) => Object.entries(values).map(([name, value]) => `${name}: ${[value].flat().join(", ")}`).join("\n");

const tagsOf = (track) => ({
  artists: track.artists.join(", ") || track.artist,
  album: track.album,
  albumArtist: track.album_artists.join(", ") || track.album_artist,
  trackNumber: of(track.track_number, track.track_total),
  discNumber: of(track.disc_number, track.disc_total),
  date: track.date ?? track.year,
  genres: track.genres.join(", ") || track.genre,
  composer: track.composer,
  comment: track.comment,
  compilation: track.compilation ? t("library.yes") : "",
  sortedAs: beside(track.title_sort, track.artist_sort, track.album_artist_sort, track.album_sort),
  musicbrainz: known(track.musicbrainz),
  replaygain: known(track.replaygain),
});

const fileOf = (track) => ({
  path: track.path,
  library: track.library,
  size: bytes(track.size),
  added: dateTime(track.added_at),
  updated: dateTime(track.updated_at),
});

const soundOf = (track) => ({
  length: duration(track.duration),
  format: track.format?.toUpperCase(),
  bitrate: track.bitrate && t("common.bitrate", { rate: track.bitrate }),
  sampleRate: track.sample_rate && `${track.sample_rate / 1000} kHz`,
  channels: track.channels,
  loudness: decibels(track.loudness?.integrated_lufs, "LUFS"),
  truePeak: decibels(track.loudness?.true_peak_dbtp, "dBTP"),
  trackGain: decibels(track.loudness?.replaygain.track_gain),
  albumGain: decibels(track.loudness?.replaygain.album_gain),
  integrity: track.integrity && t(`library.integrity.${track.integrity.state}`),
});
