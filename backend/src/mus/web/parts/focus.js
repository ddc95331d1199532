// Whoever uses the page by keys keeps a place in it: when what has the focus goes, as a row that is deleted does, the
// focus goes to what took its place, or to the view. The browser would begin at the page's top again.

const CONTROLS = "a[href], button, input, select, textarea, summary, [tabindex='0']";
const controlsIn = (branch) =>
  [branch, ...branch.querySelectorAll(CONTROLS)].filter((each) => each.matches(CONTROLS) && !each.disabled && each.checkVisibility());

/** What had the focus last: `{element, trail}`, with its places in what it is part of, from the inside out. */
let held = null;

addEventListener("focusin", ({ target }) => {
  const trail = [];
  for (let branch = target; branch.parentElement && branch.id !== "main"; branch = branch.parentElement)
    trail.push({ parent: branch.parentElement, at: [...branch.parentElement.children].indexOf(branch), nth: controlsIn(branch).indexOf(target) });
  held = { element: target, trail };
});

// Left for good, as by a click beside everything. A browser tells of it too when it takes away what has the focus.
addEventListener("focusout", ({ target }) => setTimeout(() => {
  if (held?.element === target && target.isConnected && !target.disabled && document.hasFocus() && document.activeElement === document.body) held = null;
}));

new MutationObserver(() => {
  if (!held || held.element.isConnected || document.activeElement !== document.body) return;
  successor(held.trail)?.focus({ preventScroll: true });
}).observe(document.body, { childList: true, subtree: true });

function successor(trail) {
  for (const { parent, at, nth } of trail) {
    if (parent.id === "main") break;
    if (!parent.isConnected) continue;
    const branches = [...parent.children];
    // What came after it stands in its place now; at the end there is what came before.
    for (const branch of [...branches.slice(at), ...branches.slice(0, at).reverse()]) {
      const controls = controlsIn(branch);
      if (controls.length) return controls[Math.max(0, Math.min(nth, controls.length - 1))];
    }
  }
  return document.getElementById("main");
}
