// Crontabs (five fields, in UTC) as people say them, in their own time of day.
import { locale, t } from "../text.js";

const time = new Intl.DateTimeFormat(locale, { timeStyle: "short" });
const weekday = new Intl.DateTimeFormat(locale, { weekday: "long" });
const NUMBER = /^\d+$/;
/** How often something can be had by choosing; other crontabs are written out. */
export const RHYTHMS = ["minutes", "hourly", "hours", "daily", "weekly", "own"];

/**
 * What a crontab says: `{rhythm, every, minute, hour, day}`. Of `daily` and `weekly` hour, minute and day (0 is
 * Sunday) are those of this place.
 */
export function parsed(crontab) {
  const [minute, hour, day, month, week] = crontab.trim().split(/\s+/);
  const own = { rhythm: "own" };
  if (day !== "*" || month !== "*") return own;
  if (hour === "*" && week === "*" && /^\*\/\d+$/.test(minute)) return { rhythm: "minutes", every: Number(minute.slice(2)) };
  if (!NUMBER.test(minute)) return own;
  if (hour === "*" && week === "*") return { rhythm: "hourly", minute: Number(minute) };
  if (/^\*\/\d+$/.test(hour) && week === "*") return { rhythm: "hours", every: Number(hour.slice(2)), minute: Number(minute) };
  if (!NUMBER.test(hour) || !(week === "*" || NUMBER.test(week))) return own;
  const here = inUtc(week === "*" ? 0 : Number(week) % 7, Number(hour), Number(minute));
  const place = { hour: here.getHours(), minute: here.getMinutes() };
  return week === "*" ? { rhythm: "daily", ...place } : { rhythm: "weekly", ...place, day: here.getDay() };
}

/** The crontab of such a rhythm. */
export function written({ rhythm, every, minute = 0, hour = 0, day = 0 }) {
  if (rhythm === "minutes") return `*/${every} * * * *`;
  if (rhythm === "hourly") return `${minute} * * * *`;
  if (rhythm === "hours") return `${minute} */${every} * * *`;
  const here = new Date();
  here.setDate(here.getDate() - here.getDay() + day);
  here.setHours(hour, minute, 0, 0);
  return `${here.getUTCMinutes()} ${here.getUTCHours()} * * ${rhythm === "weekly" ? here.getUTCDay() : "*"}`;
}

/** "every day at 04:17"; the crontab itself where there are no short words for it. */
export function inWords(crontab) {
  const { rhythm, every, minute, hour, day } = parsed(crontab);
  if (rhythm === "own") return t("crontab.own", { crontab });
  const at = new Date(2000, 0, 2 + (day ?? 0), hour ?? 0, minute ?? 0); // the 2nd was a Sunday
  return t(`crontab.${rhythm}`, { count: every, minute: String(minute).padStart(2, "0"), time: time.format(at), day: weekday.format(at) });
}

export const dayName = (day) => weekday.format(new Date(2000, 0, 2 + day));

/** A moment of this week. */
function inUtc(day, hour, minute) {
  const moment = new Date();
  moment.setUTCDate(moment.getUTCDate() - moment.getUTCDay() + day);
  moment.setUTCHours(hour, minute, 0, 0);
  return moment;
}
