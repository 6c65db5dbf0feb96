// Draws the page before Streamlit has started, in a holder where Streamlit will put it, and moves the
// same nodes over when Streamlit's component mounts, so that nothing is drawn twice.
import { Page } from "./overview/page.js";
import { part } from "./ui/elements.js";
import { showLive } from "./ui/live_html.js";
import { currentTheme } from "./ui/theme.js";
import { followVisitor } from "./ui/visitor.js";

/** @type {Page | null} */
let page = null;

function newRoot() {
  const template = part(document, "#queuescope-shell", HTMLTemplateElement);
  return /** @type {HTMLElement} */ (template.content.firstElementChild?.cloneNode(true));
}

/** Mounts the page in `slot`; returns the function that removes it. @param {HTMLElement} slot */
function adopt(slot) {
  const early = document.getElementById("queuescope-early");
  const adopted = page ??= new Page(newRoot());
  // A node that moves loses the focus, which is given back.
  const focused = document.activeElement;
  const hadFocus = focused instanceof HTMLElement && adopted.root.contains(focused);
  slot.replaceChildren(adopted.refusal ?? adopted.root);
  if (hadFocus) focused.focus({ preventScroll: true });
  early?.remove();
  adopted.applyTheme();
  adopted.enter();
  adopted.start();
  return () => {
    const shown = adopted.refusal ?? adopted.root;
    if (shown.parentElement !== slot) return;
    adopted.stop();
    shown.remove();
  };
}

function drawEarly() {
  const early = document.getElementById("queuescope-early");
  if (!early || page) return;
  const root = newRoot();
  early.replaceChildren(root);
  early.dataset.theme = currentTheme(root);
  const drawing = page = new Page(root);
  drawing.enter();
  const inline = document.getElementById("queuescope-snapshot");
  const started = drawing.start(inline ? JSON.parse(inline.textContent ?? "") : null);
  // After the paint, which comes after the frame's own callbacks.
  started.then(() => drawing.drawn()).finally(
    () => requestAnimationFrame(() => setTimeout(() => window.queuescopeStartStreamlit?.())),
  );
}

/**
 * Streamlit reports a lost connection in a dialog that covers and disables everything. The page
 * reports it itself, with the age of its data, and stays usable; so the dialog is closed.
 * @param {HTMLElement} dialog
 */
function dismissConnectionError(dialog) {
  if (!page?.root.isConnected) return;
  if (dialog.querySelector("h2")?.textContent !== "Connection error") return;
  dialog.style.visibility = "hidden";
  const close = dialog.querySelector("button[aria-label=Close]");
  if (close instanceof HTMLElement) close.click();
  page.loader.load({ isQuiet: true });
}

const appObserver = new MutationObserver(() => {
  for (const node of document.body.children) {
    if (node instanceof HTMLElement && node.style.colorScheme) followTheme(node);
  }
});

/**
 * Gives Streamlit's overlays, which are outside the app's element, the theme of the app, also when it changes.
 * @param {HTMLElement} node
 */
function followTheme(node) {
  const app = document.querySelector(".stApp");
  if (!app) return;
  node.style.colorScheme = getComputedStyle(app).colorScheme;
  appObserver.observe(app, { attributes: true, attributeFilter: ["class"] });
}

new MutationObserver((changes) => {
  for (const node of changes.flatMap((change) => [...change.addedNodes])) {
    if (!(node instanceof HTMLElement)) continue;
    followTheme(node);
    const dialog = node.matches("[data-testid=stDialog]") ? node : node.querySelector("[data-testid=stDialog]");
    if (dialog instanceof HTMLElement) dismissConnectionError(dialog);
  }
}).observe(document.body, { childList: true });

window.queuescope = { adopt, showLive, page: () => page };
followVisitor();
drawEarly();
