// What came last, by day.
import { html } from "../html.js";
import { t } from "../text.js";
import { date } from "../format.js";
import { Link } from "../router.js";
import { useResource } from "../resource.js";
import { AlbumCard } from "../parts/album_card.js";
import { Fault } from "../parts/empty.js";
import { FirstRun } from "./first_run.js";
import { Waiting } from "./albums.js";

const SHOWN = 200;
const DAY_MS = 86_400_000;

export function Recent() {
  const { data, error } = useResource("/albums", { sort: "-added_at", limit: SHOWN });
  if (data?.items.length === 0) return html`<${FirstRun} title=${t("nav.recent")} of="albums" />`;
  return html`
    <h1>${t("nav.recent")}</h1>
    ${data ? html`<${Days} albums=${data.items} />` : error ? html`<${Fault} error=${error} />` : html`<${Waiting} />`}
    ${data?.next_cursor && html`<p class="list-rest"><${Link} class="button plain" href="/albums?sort=-added_at">${t("library.allAlbums")}<//></p>`}
  `;
}

function Days({ albums }) {
  const days = new Map();
  for (const album of albums) {
    const day = new Date(album.added_at).toDateString();
    days.set(day, [...(days.get(day) ?? []), album]);
  }
  return [...days].map(([day, found]) => html`
    <section key=${day} class="added-day">
      <h2>${nameOf(day)} <span class="total">${t("library.albumCount", { count: found.length })}</span></h2>
      <div class="album-covers" role="list">${found.map((album) => html`<${AlbumCard} key=${album.id} album=${album} />`)}</div>
    </section>`);
}

function nameOf(day) {
  const days = Math.round((new Date(new Date().toDateString()) - new Date(day)) / DAY_MS);
  return days === 0 ? t("library.today") : days === 1 ? t("library.yesterday") : date(day);
}
