// A small sign on every page of what mus does just now.
import { html } from "../html.js";
import { t } from "../text.js";
import { Link } from "../router.js";
import { connection, running } from "../live.js";
import { Icon } from "./icon.js";
import { Progress } from "./progress.js";

export function Activity() {
  const now = running.value.filter((job) => !job.parent_id);
  const lost = connection.value === "lost";
  const text = lost ? t("live.lost") : now.length ? t("live.busy", { count: now.length }) : t("live.idle");
  const leading = now.find((job) => job.progress > 0);
  return html`
    <${Link} class=${`activity ${lost ? "lost" : now.length ? "busy" : ""}`} href="/jobs" title=${text}>
      <${Icon} name=${lost ? "offline" : "jobs"} /><span>${text}</span>
      ${now.length > 0 && !lost && html`<${Progress} value=${leading ? leading.progress : null} label=${text} />`}
    <//>
  `;
}
