// Who is there: with a token set, a browser signs in and gets a cookie that scripts cannot read.
import { signal } from "@preact/signals";
import { call, whenSignedOut } from "./api.js";

/** "unknown", "open" (no token is needed), "in" or "out". */
export const session = signal("unknown");

export async function checkSession() {
  try {
    const found = await call("GET", "/session");
    session.value = !found.token_needed ? "open" : found.signed_in ? "in" : "out";
  } catch {
    // The page says by itself what cannot be reached.
    if (session.value === "unknown") session.value = "open";
  }
}

/** Asked for as soon as this module is there: the page's others are still on their way. */
export const checked = checkSession();

export async function signIn(token) {
  await call("POST", "/session", { body: { token } });
  session.value = "in";
}

export async function signOut() {
  await call("DELETE", "/session");
  session.value = "out";
}

// Where no token was needed, mus was given one since.
whenSignedOut(() => {
  session.value = "out";
});
