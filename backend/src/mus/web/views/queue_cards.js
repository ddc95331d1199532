// The queues: how much waits and runs, how fast it goes, and a switch to hold each up.
import { html } from "../html.js";
import { t } from "../text.js";
import { span } from "../format.js";
import { Link, route, setQuery } from "../router.js";
import { useResource } from "../resource.js";
import { Chart } from "../parts/chart.js";
import { Skeleton } from "../parts/empty.js";
import { Icon } from "../parts/icon.js";
import { pauseQueue } from "./job_actions.js";

const EVERY_MS = 5_000;
/** Minutes that the charts show, and seconds of one of their points. */
const PERIODS = { 60: 60, 360: 300, 1440: 1200 };

export function QueueCards() {
  const period = PERIODS[route.value.query.minutes] ? route.value.query.minutes : "60";
  const queues = useResource("/queues", undefined, { every: EVERY_MS });
  const history = useResource("/queues/history", { minutes: period, step: PERIODS[period] }, { every: 6 * EVERY_MS });
  if (!queues.data) return html`<${Skeleton} rows=${3} />`;
  return html`
    <section><div class="view-head"><h2>${t("queues.title")}</h2><div class="tabs" role="group" aria-label=${t("queues.period")}>
      ${Object.keys(PERIODS).map((minutes) => html`
        <button key=${minutes} aria-pressed=${period === minutes} onClick=${() => setQuery({ minutes: minutes === "60" ? "" : minutes })}>${t("queues.hours", { count: minutes / 60 })}</button>`)}
    </div></div>
    <div class="cards">
      ${queues.data.items.map((queue) => html`<${QueueCard} key=${queue.name} queue=${queue} points=${pointsOf(history.data, queue.name)} />`)}
    </div></section>
  `;
}

/** The API's lists, one value a step, as one point a step. */
function pointsOf(history, name) {
  const queue = history?.queues.find((each) => each.name === name);
  return (queue?.started ?? []).map((_, step) => ({
    succeeded: queue.succeeded[step],
    failed: queue.failed[step],
    wait_median: queue.wait_median[step],
    wait_p95: queue.wait_p95[step],
  }));
}

function QueueCard({ queue, points }) {
  const name = t(`queues.${queue.name}`);
  return html`
    <article class=${queue.paused ? "card queue paused" : "card queue"} aria-label=${name}>
      <div class="row">
        <h3>${name}</h3>
        ${queue.paused && html`<span class="chip warn" title=${queue.paused_by}>${t("queues.paused")}</span>`}
        <button class="button plain" onClick=${() => pauseQueue(queue.name, !queue.paused)}>
          <${Icon} name=${queue.paused ? "play" : "pause"} size=${16} />${queue.paused ? t("queues.resume") : t("queues.pause")}
          <span class="visually-hidden">${name}</span>
        </button>
      </div>
      <dl class="figures">
        <div><dt>${t("queues.waits")}</dt><dd>${t("queues.number", { count: queue.depth })}</dd></div>
        <div><dt>${t("queues.runs")}</dt><dd>${t("queues.number", { count: queue.running + queue.waiting })}</dd></div>
        <div><dt>${t("queues.rate")}</dt><dd>${Math.round(queue.rate * 10) / 10}</dd></div>
        <div><dt>${t("queues.oldest")}</dt><dd>${queue.oldest_wait === null ? "–" : span(queue.oldest_wait)}</dd></div>
        <div><dt>${t("queues.failed")}</dt><dd>${queue.failed ? html`<${Link} class="bad" href=${`/failures?queue=${queue.name}`}>${queue.failed}<//>` : 0}</dd></div>
      </dl>
      <${Chart} label=${t("queues.throughput", { name })} points=${points} kind="bars"
        series=${[{ name: t("jobs.state.succeeded"), of: (point) => point.succeeded }, { name: t("jobs.state.failed"), of: (point) => point.failed, bad: true }]} format=${(value) => Math.round(value)} />
      <${Chart} label=${t("queues.waitingTime", { name })} points=${points} kind="lines"
        series=${[{ name: t("queues.median"), of: (point) => point.wait_median }, { name: t("queues.p95"), of: (point) => point.wait_p95, faint: true }]} format=${span} />
    </article>
  `;
}
