// Many requests, a few of them at a time: a browser has six connections to a server, and the page needs some.
const AT_ONCE = 4;

/** `work(item)` for each; resolves with `{value}` or `{error}` of each, in their order. */
export async function someAtOnce(items, work, most = AT_ONCE) {
  const outcomes = new Array(items.length);
  let next = 0;
  const lane = async () => {
    while (next < items.length) {
      const index = next++;
      try {
        outcomes[index] = { value: await work(items[index]) };
      } catch (error) {
        outcomes[index] = { error };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(most, items.length) }, lane));
  return outcomes;
}
