// The frame around every view: navigation, search, what mus is doing, the player.
import { Component } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { html } from "./html.js";
import { t } from "./text.js";
import { Link, navigate, route, setQuery, viewTitle } from "./router.js";
import { goToPlace, hasPlace, keepPlace } from "./scroll_places.js";
import { viewOf } from "./routes.js";
import { connect, connection, disconnect } from "./live.js";
import { session } from "./session.js";
import "./theme.js";
import "./parts/focus.js";
import { SignIn } from "./views/sign_in.js";
import { Activity } from "./parts/activity.js";
import { Icon } from "./parts/icon.js";
import { Toasts } from "./parts/toast.js";
import { Empty } from "./parts/empty.js";
import { PlayerBar } from "./player/bar.js";
import { DropPlace } from "./care/drop_place.js";

const LIBRARY = ["albums", "artists", "tracks", "recent"];
const CARE = ["jobs", "failures", "workers", "libraries", "upload", "trash", "duplicates", "settings"];
/** Those that a phone's bar has room for. */
const SMALL = ["albums", "artists", "tracks", "jobs", "more"];

export function App() {
  const signedIn = session.value === "open" || session.value === "in";
  useEffect(() => {
    if (signedIn) connect();
    return disconnect;
  }, [signedIn]);
  if (!signedIn) return html`<${SignIn} />`;
  return html`
    <div class="shell">
      <a class="skip" href="#main" onClick=${skip}>${t("app.skip")}</a>
      <${Sidebar} />
      <${TopBar} />
      <${Main} />
      <${PlayerBar} />
      <${SmallBar} />
      <${Toasts} />
      <${DropPlace} />
    </div>
  `;
}

function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

function Sidebar() {
  return html`
    <nav class="sidebar" aria-label=${t("nav.main")}>
      <${Link} class="brand" href="/"><${Icon} name="mus" /> mus<//>
      <h2>${t("nav.library")}</h2>
      <ul>${LIBRARY.map((name) => html`<${NavItem} key=${name} name=${name} />`)}</ul>
      <h2>${t("nav.care")}</h2>
      <ul>${CARE.map((name) => html`<${NavItem} key=${name} name=${name} />`)}</ul>
    </nav>
  `;
}

function SmallBar() {
  return html`
    <nav class="smallbar" aria-label=${t("nav.library")}>
      <ul>${SMALL.map((name) => html`<${NavItem} key=${name} name=${name} />`)}</ul>
    </nav>
  `;
}

function NavItem({ name }) {
  const first = route.value.path.split("/")[1] || "albums";
  return html`<li><${Link} href=${`/${name}`} aria-current=${first === name ? "page" : undefined}>
    <${Icon} name=${name} /><span>${t(`nav.${name}`)}</span>
  <//></li>`;
}

function TopBar() {
  return html`
    <header class="topbar">
      <${Link} class="brand small-only" href="/" aria-label=${t("app.home")}><${Icon} name="mus" /><//>
      <${Search} />
      <${Activity} />
    </header>
    <div class="notice" role="status" hidden=${connection.value !== "lost"}>${t("live.lost")}</div>
  `;
}

/**
 * Search as you type: the views that show a list of music read `q`; from elsewhere it leads to the search view. The
 * first letter makes an entry of the history: the way back leads to the whole list, where it was.
 */
function Search() {
  const { path, query } = route.value;
  const input = useRef(null);
  useEffect(() => {
    const focus = (event) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest("input, textarea, select, [contenteditable]")) return;
      event.preventDefault();
      input.current.select();
    };
    addEventListener("keydown", focus);
    return () => removeEventListener("keydown", focus);
  }, []);
  const onInput = ({ target: { value } }) => {
    if (["/search", "/tracks", "/albums", "/artists"].includes(path)) setQuery({ q: value }, { replace: Boolean(query.q) });
    else navigate(`/search?q=${encodeURIComponent(value)}`);
    // Who stays, asked whether to leave unsaved work, has searched for nothing.
    if (route.value.query.q !== value) input.current.value = query.q ?? "";
  };
  return html`
    <form class="search" role="search" onSubmit=${(event) => event.preventDefault()}>
      <${Icon} name="search" />
      <input ref=${input} type="search" aria-label=${t("nav.search")} placeholder=${t("nav.search")} autocomplete="off"
        spellcheck=${false} maxlength="200" value=${query.q ?? ""} onInput=${onInput} />
    </form>
  `;
}

/** The view of the address. It keeps its place for whoever comes back, and takes the focus when it is a new one. */
function Main() {
  const { path, query, entry } = route.value;
  const main = useRef(null);
  const { view: View, title, params, place } = viewOf(path);
  const onScroll = () => keepPlace(entry, main.current);
  const before = useRef({ place, path, entry });
  useEffect(() => {
    viewTitle.value = title;
  }, [title]);
  // Before the browser says where the view before it left off: that is no place in this one.
  useLayoutEffect(() => {
    const last = before.current;
    before.current = { place, path, entry };
    // At the page's beginning: what was loaded anew goes on where it was.
    if (last.entry === entry && last.path === path) return hasPlace(entry) ? goToPlace(entry, main.current) : undefined;
    // What opens and closes in front of a view leaves it where it was.
    if (last.place === place && last.path !== path) return onScroll();
    // Who types a search goes on typing, whatever view the first letter opened.
    if (last.place !== place && !document.activeElement.closest(".search")) main.current.focus({ preventScroll: true });
    return goToPlace(entry, main.current);
  }, [path, entry]);
  return html`
    <main class="main" id="main" tabindex="-1" ref=${main} onScroll=${onScroll}>
      <${Guard} key=${place}>${View ? html`<${View} ...${params} query=${query} />` : html`<${NotFound} />`}<//>
    </main>
  `;
}

function NotFound() {
  return html`<${Empty} icon="search" title=${t("app.notFoundTitle")} text=${t("app.notFound")}>
    <${Link} class="button" href="/">${t("app.home")}<//>
  <//>`;
}

/** A fault in a view stays in that view. */
class Guard extends Component {
  componentDidCatch(error) {
    console.error(error);
    this.setState({ error });
  }
  render({ children }, { error }) {
    if (!error) return children;
    return html`<${Empty} icon="failures" title=${t("app.broken")} text=${error.message}>
      <button class="button" onClick=${() => this.setState({ error: null })}>${t("app.again")}</button>
    <//>`;
  }
}
