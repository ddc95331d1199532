// Whether mus is well: each part, and what is wrong in plain words.
import { html } from "../html.js";
import { t } from "../text.js";
import { useResource } from "../resource.js";
import { Link } from "../router.js";
import { Fault, Skeleton } from "../parts/empty.js";
import { Icon } from "../parts/icon.js";

const EVERY_MS = 15_000;
const QUEUES = ["high_priority", "medium_priority", "low_priority"];

export function Health() {
  const { data: last, error } = useResource("/health", {}, { every: EVERY_MS });
  // Without its database mus answers 503, with all the rest that it knows.
  const data = error?.body.database ? error.body : last;
  return html`
    <section aria-labelledby="health">
      <h2 id="health">${t("settings.health")}</h2>
      ${!data && (error ? html`<${Fault} error=${error} />` : html`<${Skeleton} rows=${4} />`)}
      ${data && html`
        <p class="lead">${t(`settings.status.${data.status}`)} <span class="muted">${t("settings.version", { version: data.version ?? "" })}</span></p>
        <ul class="health">${parts(data).map((part) => html`<${Part} key=${part.name} ...${part} />`)}</ul>`}
    </section>
  `;
}

function Part({ name, state, text, link }) {
  return html`
    <li class="health-part">
      <span class=${`chip ${state}`}><${Icon} name=${state === "good" ? "check" : "failures"} size=${16} />${t(`settings.is.${state}`)}</span>
      <strong>${name}</strong>
      <span class="muted">${text}</span>
      ${link && html`<${Link} class="text-button" href=${link.href} aria-label=${`${link.label}: ${name}`}>${link.label}<//>`}
    </li>
  `;
}

/** `{name, state, text, link?}` of each: state is good, warn or bad. */
function parts({ database, broker, workers = [], watcher, paused_queues: paused = [], libraries = [] }) {
  const alive = workers.filter((worker) => worker.alive);
  const unserved = QUEUES.filter((queue) => !alive.some((worker) => worker.queues.includes(queue)));
  const toWorkers = { href: "/workers", label: t("settings.look") };
  const toLibraries = { href: "/libraries", label: t("settings.look") };
  const watched = libraries.some((library) => library.watch_mode);
  const shown = [
    database && {
      name: t("settings.database"),
      state: database.ok ? "good" : "bad",
      text: database.ok ? t("settings.answers", { kind: database.kind, time: Math.ceil(database.latency_ms) }) : t("settings.databaseDown"),
    },
    broker && {
      name: t("settings.broker"),
      state: broker.ok ? "good" : "bad",
      text: broker.ok ? t("settings.answers", { kind: `${broker.kind} ${broker.version}`, time: Math.ceil(broker.latency_ms) }) : t("settings.brokerDown"),
    },
    {
      name: t("nav.workers"),
      state: unserved.length ? "bad" : alive.length < workers.length ? "warn" : "good",
      text: unserved.length
        ? t("settings.unserved", { queues: unserved.map(queueName).join(", ") })
        : alive.length < workers.length
          ? t("settings.workersDead", { count: workers.length - alive.length })
          : t("settings.workersAlive", { count: alive.length }),
      link: toWorkers,
    },
    {
      name: t("settings.watcher"),
      state: watcher?.alive ? "good" : "warn",
      text: watcher?.alive ? t(watched ? "settings.watches" : "settings.watchesNothing", { host: watcher.host }) : t("settings.noWatcher"),
    },
    ...libraries.map((library) => ({
      name: library.name,
      state: !library.online ? "bad" : library.writable === false ? "warn" : "good",
      text: !library.online ? library.offline_reason : library.writable === false ? t("libraries.readOnly", { reason: library.read_only_reason }) : t("libraries.online"),
      link: toLibraries,
    })),
    paused.length > 0 && { name: t("settings.queues"), state: "warn", text: t("settings.paused", { queues: paused.map(queueName).join(", ") }), link: { href: "/jobs", label: t("settings.look") } },
  ];
  return shown.filter(Boolean);
}

const queueName = (queue) => queue.replace("_priority", "");
