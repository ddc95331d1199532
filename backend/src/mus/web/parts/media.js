// How large the page is, for what styles cannot decide alone.
import { signal } from "@preact/signals";

const phone = matchMedia("(max-width: 760px)");
/** Whether the page has the form of a phone; the same width as in style/layout.css. */
export const isPhone = signal(phone.matches);
phone.addEventListener("change", () => {
  isPhone.value = phone.matches;
});
