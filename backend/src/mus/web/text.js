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
  return found.replace(/\{(\w+)\}/g, (_, key) => (typeof values[key] === "number" ? number.format(values[key]) : (values[key] ?? "")));
}
