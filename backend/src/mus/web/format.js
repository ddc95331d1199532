// Figures as people read them, in their locale.
import { locale, t } from "./text.js";

const number = new Intl.NumberFormat(locale);
const day = new Intl.DateTimeFormat(locale, { dateStyle: "medium" });
const moment = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "medium" });
const relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto", style: "short" });
const UNITS = [["year", 31_536_000], ["month", 2_592_000], ["week", 604_800], ["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1]];

export const count = (value) => number.format(value);
export const date = (iso) => (iso ? day.format(new Date(iso)) : "");
export const dateTime = (iso) => (iso ? moment.format(new Date(iso)) : "");

/** "3 min. ago" */
export function ago(iso, now = Date.now()) {
  if (!iso) return t("time.never");
  const seconds = (new Date(iso) - now) / 1000;
  const [unit, length] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
  return Math.abs(seconds) < 5 ? t("time.now") : relative.format(Math.round(seconds / length), unit);
}

/** A length of music: 3:07, 1:02:07; empty when it is not known. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  const whole = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (value) => String(value).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** A length of waiting or working: 40 ms, 1.4 s, 12 s, 3 min, 2.5 h. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${Math.round(seconds * 10) / 10} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 5_400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 360) / 10} h`;
}

/** 4.2 MB */
export function bytes(size) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (size >= 1000 && step < units.length - 1) [size, step] = [size / 1000, step + 1];
  return `${step && size < 100 ? size.toFixed(1) : Math.round(size)} ${units[step]}`;
}

export const percent = (part) => `${Math.floor(part * 100)} %`;
