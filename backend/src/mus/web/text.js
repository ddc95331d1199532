// Every text that the page shows comes from here. Another language is another file like text/en.js.
import en from "./text/en.js";

const messages = en;
export const locale = navigator.languages.find((name) => name.startsWith("en")) ?? "en";
const plural = new Intl.PluralRules(locale);
const number = new Intl.NumberFormat(locale);

/**
 * The text by its name ("jobs.now"), with `{name}` filled in from `values`; numbers as the locale writes them.
 * A text in several forms (`{one, other}`) is chosen by `values.count`. A name without a text is shown itself.
 */
export function t(name, values = {}) {
  let found = name.split(".").reduce((part, key) => part?.[key], messages);
  if (found && typeof found === "object") found = found[plural.select(values.count)] ?? found.other;
  if (typeof found !== "string") return name;
  return found.replace(/\{(\w+)\}/g, (_, key) => (typeof values[key] === "number" ? number.format(values[key]) : apart(values[key] ?? "")));
}

/** Letters that are written from right to left, and the signs that turn what follows them. */
const TURNING = /[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufefc]/;

/** What a tag or a file is called as part of a sentence: however it is written, it does not turn what stands beside it. */
export const apart = (name) => (TURNING.test(name) ? `\u2068${String(name).replace(/[\u2066-\u2069]/g, "")}\u2069` : name);

/** "Artist · Album", of those that there are. */
export const beside = (...names) => names.filter(Boolean).map(apart).join(" · ");
