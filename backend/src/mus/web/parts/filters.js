// What narrows a list: each choice is in the address, and its list of values says how many tracks have each.
import { html } from "../html.js";
import { t } from "../text.js";
import { count } from "../format.js";
import { route, setQuery } from "../router.js";
import { useResource } from "../resource.js";
import { Icon } from "./icon.js";

/** Of the query, what names a filter of `names`: what is asked of the API. */
export const filtersOf = (query, names) => Object.fromEntries(names.filter((name) => query[name]).map((name) => [name, query[name]]));

export const clearFilters = (names) => setQuery(Object.fromEntries(names.map((name) => [name, null])));

/** The choices of `names`: any of q, genre, format, year, year_from, year_to, status, library, artist, album. */
export function Filters({ names, children }) {
  const { query } = route.value;
  const { data: facets } = useResource("/facets", { library: query.library });
  const { data: libraries } = useResource("/libraries");
  const active = names.filter((name) => query[name]);
  return html`
    <div class="filters" role="group" aria-label=${t("library.filters")}>
      ${names.map((name) => html`<${Filter} key=${name} name=${name} value=${query[name]} options=${optionsOf(name, facets, libraries)} />`)}
      ${active.length > 0 && html`<button type="button" class="text-button" onClick=${() => clearFilters(names)}>${t("library.clear")}</button>`}
      ${children}
    </div>
  `;
}

/** Words and names that came from elsewhere are no list to choose from: they can be taken away. */
function Filter({ name, value, options }) {
  if (options === null)
    return value && html`<button type="button" class="filter chosen" title=${t("library.remove")} onClick=${() => setQuery({ [name]: null })}>
      <span class="ellipsis">${t(`library.filter.${name}`)}: ${value}</span><${Icon} name="close" size=${14} />
    </button>`;
  // One library, or one format, is no choice.
  if (options.length < 2 && !value) return null;
  const known = !value || options.some((option) => String(option.value) === value);
  return html`
    <label class=${value ? "filter chosen" : "filter"}>
      <span class="visually-hidden">${t(`library.filter.${name}`)}</span>
      <select value=${value ?? ""} onChange=${(event) => setQuery({ [name]: event.target.value })}>
        <option value="">${t(`library.filter.${name}`)}</option>
        ${!known && html`<option value=${value}>${value}</option>`}
        ${options.map((option) => html`<option key=${option.value} value=${option.value}>${option.label}</option>`)}
      </select>
      <${Icon} name="down" size=${14} />
    </label>
  `;
}

function optionsOf(name, facets, libraries) {
  if (name === "library") return (libraries?.items ?? []).map((library) => ({ value: library.name, label: library.name }));
  const listed = (items, value, label = value) =>
    (items ?? []).map((item) => ({ value: value(item), label: t("library.counted", { name: label(item), count: count(item.tracks) }) }));
  switch (name) {
    case "genre":
      return listed([...(facets?.genres ?? [])].sort((a, b) => a.name.localeCompare(b.name)), (item) => item.name);
    case "format":
      return listed(facets?.formats, (item) => item.name, (item) => item.name.toUpperCase());
    case "year":
    case "year_from":
    case "year_to":
      return listed(facets?.years, (item) => item.year);
    case "status":
      return listed(facets?.statuses, (item) => item.status, (item) => t(`library.status.${item.status}`));
    default:
      return null;
  }
}

/** A choice among orders: `{value, label}`; the first is the one without `sort` in the address. */
export function Order({ orders }) {
  const { sort } = route.value.query;
  return html`
    <label class="filter order">
      <span class="visually-hidden">${t("library.order")}</span>
      <select value=${sort ?? orders[0]} onChange=${({ target }) => setQuery({ sort: target.value === orders[0] ? null : target.value })}>
        ${sort && !orders.includes(sort) && html`<option value=${sort}>${sort}</option>`}
        ${orders.map((order) => html`<option key=${order} value=${order}>${t(`library.orders.${order}`)}</option>`)}
      </select>
      <${Icon} name="down" size=${14} />
    </label>
  `;
}
