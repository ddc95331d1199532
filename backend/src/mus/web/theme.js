// How the page looks: "system", "light" or "dark"; kept in this browser.
import { effect, signal } from "@preact/signals";

export const THEMES = ["system", "light", "dark"];
export const theme = signal(localStorage.getItem("mus.theme") ?? "system");

effect(() => {
  localStorage.setItem("mus.theme", theme.value);
  if (theme.value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
});
