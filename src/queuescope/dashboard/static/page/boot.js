// Draws before Streamlit is there, in a holder that lies where Streamlit will put the page, and
// hands the very same nodes over when its component mounts: nothing is drawn twice.

let page = null;

function build() {
  const template = document.getElementById("queuescope-shell");
  const root = template.content.firstElementChild.cloneNode(true);
  return { root, trends: new Trends(root) };
}

// The component's mount: `slot` takes the page. Returns what undoes it.
function adopt(slot) {
  const early = document.getElementById("queuescope-early");
  if (!page) page = build();
  // A node that moves loses the focus: who was tabbing or typing goes on where they were.
  const focused = page.root.contains(document.activeElement) ? document.activeElement : null;
  slot.replaceChildren(page.trends.refusal ?? page.root);
  focused?.focus({ preventScroll: true });
  early?.remove();
  page.trends.applyTheme();
  page.trends.enter();
  page.trends.start();
  return () => {
    const shown = page.trends.refusal ?? page.root;
    if (shown.parentElement === slot) {
      page.trends.stop();
      shown.remove();
    }
  };
}

function drawEarly() {
  const early = document.getElementById("queuescope-early");
  if (!early || page) return;
  const template = document.getElementById("queuescope-shell");
  const root = template.content.firstElementChild.cloneNode(true);
  early.replaceChildren(root);
  early.dataset.theme = currentTheme(root);
  page = { root, trends: new Trends(root) };
  page.trends.enter();
  const inline = document.getElementById("queuescope-snapshot");
  const started = page.trends.start(inline ? JSON.parse(inline.textContent) : null);
  const drawn = Promise.resolve(started).then(() => page.trends.drawn());
  // After the paint: a frame's own callbacks still run before it.
  drawn.finally(() => requestAnimationFrame(() => setTimeout(window.queuescopeStartStreamlit)));
}

// Streamlit tells of a lost connection in a dialog that covers and disables everything. The page
// tells it itself, with the age of what it shows, and can still be used; it asks at once.
function dismissConnectionError(dialog) {
  if (!page?.root.isConnected) return;
  if (dialog.querySelector("h2")?.textContent !== "Connection error") return;
  dialog.style.visibility = "hidden";
  dialog.querySelector("button[aria-label=Close]")?.click();
  page.trends.load({ quiet: true });
}

// What Streamlit lays over the page stands beside it, where the theme does not reach.
function followTheme(node) {
  const app = document.querySelector(".stApp");
  if (app) node.style.colorScheme = getComputedStyle(app).colorScheme;
}

new MutationObserver((changes) => {
  for (const node of changes.flatMap((change) => [...change.addedNodes])) {
    if (node.nodeType === 1) followTheme(node);
    const found = node.nodeType === 1 && (node.matches("[data-testid=stDialog]")
      ? node : node.querySelector("[data-testid=stDialog]"));
    if (found) dismissConnectionError(found);
  }
}).observe(document.body, { childList: true });

window.queuescope = { adopt, showLive, page: () => page };
drawEarly();
