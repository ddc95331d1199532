// Lists of the API that come in pages, further ones when asked for.
import { useState } from "preact/hooks";
import { get } from "../api.js";
import { html } from "../html.js";
import { useResource } from "../resource.js";
import { t } from "../text.js";
import { sayFault } from "./toast.js";

/** The largest page that the API gives. */
const MOST = 500;

/**
 * GET `path` with `query`, `limit` items first. Returns `{items, error, loading, more}`: `items` is null before the
 * first answer, `more` a button for further ones, or null.
 */
export function usePages(path, query, limit = 100) {
  const [wanted, setWanted] = useState(limit);
  const first = useResource(path, { ...query, limit: wanted });
  const [further, setFurther] = useState({ of: null });
  // Further pages are those behind this first one: after a change the first is asked for anew.
  const { items, cursor } = further.of === first.data ? further : { items: [], cursor: first.data?.next_cursor };
  const load = async () => {
    if (wanted < MOST) return setWanted(MOST);
    try {
      const page = await get(path, { ...query, limit: MOST, cursor });
      setFurther({ of: first.data, items: [...items, ...page.items], cursor: page.next_cursor });
    } catch (error) {
      sayFault(error);
    }
  };
  return {
    items: first.data && [...first.data.items, ...items],
    error: first.error,
    loading: first.loading,
    more: cursor ? html`<p class="more"><button class="button plain" disabled=${first.loading} onClick=${load}>${t("common.more")}</button></p>` : null,
  };
}
