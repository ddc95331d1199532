// What jobs came to, in words.
import { t } from "../text.js";

const SCAN_COUNTS = ["added", "updated", "moved", "missing", "failed"];

/** `results` are those of scans, a library each: "12 added, 3 updated", or that nothing has changed. */
export function scanOutcome(results) {
  const sum = (name) => results.reduce((total, result) => total + (result?.[name] ?? 0), 0);
  const said = SCAN_COUNTS.filter(sum).map((name) => t(`care.scanned.${name}`, { count: sum(name) }));
  return said.join(", ") || t("care.scanned.nothing", { count: sum("found") });
}

/** What an edit's result says, in words. */
export function editOutcome(result) {
  const said = ["edited", "renamed", "unchanged", "failed"].filter((name) => result[name]).map((name) => t(`edit.result.${name}`, { count: result[name] }));
  return said.join(", ") || t("edit.result.nothing");
}
