// On a phone: the rest of the navigation.
import { html } from "../html.js";
import { t } from "../text.js";
import { Link } from "../router.js";
import { Icon } from "../parts/icon.js";

const REST = ["recent", "failures", "workers", "libraries", "upload", "trash", "duplicates", "settings"];

export function More() {
  return html`
    <h1>${t("nav.more")}</h1>
    <ul class="more-list">
      ${REST.map((name) => html`<li key=${name}><${Link} href=${`/${name}`}><${Icon} name=${name} /> ${t(`nav.${name}`)}<//></li>`)}
    </ul>
  `;
}
