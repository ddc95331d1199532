// Work that nothing has stored yet is not left without a question.
import { useLayoutEffect } from "preact/hooks";
import { beforeLeaving } from "../router.js";
import { confirm } from "./dialog.js";

/** While `is`, whoever leaves the view is asked; `question()` makes what `confirm` takes. */
export function useUnsaved(is, question) {
  useLayoutEffect(() => {
    if (!is) return undefined;
    // The browser's own question is all that a page may show when its window is closed.
    const closing = (event) => event.preventDefault();
    const end = beforeLeaving(async (go) => (await confirm({ ...question(), dangerous: true })) && go());
    addEventListener("beforeunload", closing);
    return () => {
      end();
      removeEventListener("beforeunload", closing);
    };
  });
}
