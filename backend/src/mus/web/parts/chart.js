// Small charts over time, drawn as SVG; what they show is said in words too.
import { html } from "../html.js";
import { t } from "../text.js";

const WIDTH = 300;
const HEIGHT = 64;

/**
 * `points` are equal steps of time, the oldest first; `series` are `{name, of(point), bad?, faint?}` where `of` gives a
 * number or null. `kind` is "bars", stacked, or "lines". `format` writes a value.
 */
export function Chart({ label, points, series, kind, format }) {
  const sums = points.map((point) => (kind === "bars" ? series.reduce((sum, each) => sum + (each.of(point) ?? 0), 0) : Math.max(0, ...series.map((each) => each.of(point) ?? 0))));
  const most = Math.max(0, ...sums);
  const last = points.at(-1);
  const words = most ? t("chart.summary", { label, most: format(most), last: last ? series.map((each) => `${each.name} ${format(each.of(last) ?? 0)}`).join(", ") : "" }) : t("chart.nothing", { label });
  const x = (index) => (index * WIDTH) / Math.max(1, points.length);
  const y = (value) => HEIGHT - (value / (most || 1)) * (HEIGHT - 4);
  return html`
    <figure class="chart">
      <figcaption><span>${label}</span><span class="muted">${most ? t("chart.most", { most: format(most) }) : ""}</span></figcaption>
      <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label=${words}>
        <path class="base" d=${`M0 ${HEIGHT - 0.5}H${WIDTH}`} />
        ${kind === "bars" ? bars(points, series, x, y) : series.map((each) => html`<path class=${each.faint ? "line faint" : "line"} d=${line(points, each.of, x, y)} />`)}
      </svg>
    </figure>
  `;
}

function bars(points, series, x, y) {
  const width = Math.max(1, WIDTH / Math.max(1, points.length) - 1);
  return series.map((each, nth) => {
    let path = "";
    points.forEach((point, index) => {
      const below = series.slice(0, nth).reduce((sum, lower) => sum + (lower.of(point) ?? 0), 0);
      const value = each.of(point) ?? 0;
      if (value) path += `M${x(index)} ${y(below)}V${y(below + value)}h${width}V${y(below)}Z`;
    });
    return html`<path class=${each.bad ? "bar bad" : "bar"} d=${path} />`;
  });
}

/** A line that breaks off where there is no value. */
function line(points, of, x, y) {
  let path = "";
  let pen = false;
  points.forEach((point, index) => {
    const value = of(point);
    if (value !== null && value !== undefined) path += `${pen ? "L" : "M"}${x(index)} ${y(value)}h${WIDTH / points.length}`;
    pen = value !== null && value !== undefined;
  });
  return path;
}
