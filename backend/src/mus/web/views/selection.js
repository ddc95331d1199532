// Which tracks of a list are chosen, and what is done with all of them.
import { signal } from "@preact/signals";
import { html } from "../html.js";
import { t } from "../text.js";
import { IconButton } from "../parts/icon.js";
import { say } from "../parts/toast.js";
import { doing, editTracks, enqueueTracks, playFrom, playTracksNext, playable } from "../parts/track_actions.js";
import { trashTracks } from "../care/actions.js";

/** Most tracks that are chosen at once. */
const MOST = 1_000;

export class Selection {
  /** Chosen tracks by id, in the order in which they were chosen. @type {Signal<Map<number, object>>} */
  tracks = signal(new Map());
  /** The row that the keyboard is at; -1 before it was used. */
  active = signal(-1);
  /** Where the range that Shift draws begins. */
  #anchor = 0;
  #turn = 0;

  has = (track) => track !== null && this.tracks.value.has(track.id);

  clear = () => {
    this.#turn++;
    this.tracks.value = new Map();
  };

  /** Only this row. */
  only(list, index) {
    this.#at(index);
    this.#take(list.at(index) ? [list.at(index)] : []);
  }

  /** This row too, or no longer. */
  toggle(list, index) {
    this.#at(index);
    const track = list.at(index);
    const next = new Map(this.tracks.value);
    if (track && !next.delete(track.id)) next.set(track.id, track);
    this.tracks.value = next;
  }

  /** All rows from the last that was chosen alone to this. */
  async range(list, index) {
    if (!this.tracks.value.size) this.#anchor = Math.max(0, this.active.value);
    this.active.value = index;
    const [first, last] = [Math.min(this.#anchor, index), Math.max(this.#anchor, index)];
    await this.#fetch(list, first, last - first + 1);
  }

  async all(list) {
    await this.#fetch(list, 0, MOST);
    if (list.total > MOST) say(t("library.firstChosen", { count: MOST }));
  }

  /** The last one counts, however late the answers for those before come. */
  async #fetch(list, first, count) {
    const turn = ++this.#turn;
    const tracks = await list.rows(first, Math.min(MOST, count));
    if (turn === this.#turn) this.#take(tracks);
  }

  #at(index) {
    this.#turn++;
    this.active.value = index;
    this.#anchor = index;
  }

  #take(tracks) {
    this.#turn++;
    this.tracks.value = new Map(tracks.map((track) => [track.id, track]));
  }
}

/** What can be done with those that are chosen; nothing while none is. */
export function SelectionBar({ selection }) {
  const tracks = [...selection.tracks.value.values()];
  if (!tracks.length) return null;
  const live = playable(tracks);
  const trash = async () => (await trashTracks(live)) && selection.clear();
  return html`
    <div class="selection-bar" role="toolbar" aria-label=${t("library.chosenActions")}>
      <strong role="status">${t("library.chosen", { count: tracks.length })}</strong>
      <${IconButton} icon="play" label=${t("library.play")} onClick=${() => playFrom(tracks)} />
      <${IconButton} icon="queue" label=${t("library.playNext")} onClick=${() => playTracksNext(tracks)} />
      <${IconButton} icon="add" label=${t("library.enqueue")} onClick=${() => enqueueTracks(tracks)} />
      <${IconButton} icon="edit" label=${t("library.edit")} disabled=${!live.length} onClick=${() => editTracks(live)} />
      <${IconButton} icon="trash" label=${t("library.trash")} disabled=${!live.length} onClick=${doing(trash)} />
      <${IconButton} icon="close" label=${t("library.chooseNone")} onClick=${selection.clear} />
    </div>
  `;
}
