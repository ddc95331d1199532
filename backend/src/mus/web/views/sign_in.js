// Where a token is set: the door.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { t } from "../text.js";
import { signIn } from "../session.js";
import { Icon } from "../parts/icon.js";

export function SignIn() {
  const [state, setState] = useState({ busy: false, message: "" });
  const submit = async (event) => {
    event.preventDefault();
    const token = new FormData(event.target).get("token").trim();
    setState({ busy: true, message: "" });
    try {
      await signIn(token);
    } catch (problem) {
      setState({ busy: false, message: problem.status === 401 ? t("session.wrong") : problem.message });
    }
  };
  return html`
    <main class="sign-in">
      <form onSubmit=${submit}>
        <h1><${Icon} name="mus" size=${36} /> mus</h1>
        <label for="token">${t("session.token")}</label>
        <input id="token" name="token" type="password" autocomplete="current-password" required autofocus aria-describedby="token-hint" />
        <p id="token-hint">${t("session.hint")}</p>
        <p class="problem" role="alert">${state.message}</p>
        <button class="button" disabled=${state.busy}>${t("session.submit")}</button>
      </form>
    </main>
  `;
}
