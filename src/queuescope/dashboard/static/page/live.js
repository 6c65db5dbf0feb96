// A part of a page that Python describes as HTML, in which all foreign text is escaped already
// (dashboard/widgets.py). It is changed in place: who is about to press a button, has opened
// something or scrolled a table finds the very same nodes after a refresh.

const LIVE_KEYS = ["key", "value"];

function liveKey(node) {
  if (node.nodeType !== 1) return null;
  const named = LIVE_KEYS.find((name) => node.dataset[name] !== undefined);
  return named ? `${node.nodeName}/${node.dataset.of ?? ""}/${node.dataset[named]}` : null;
}

function becomes(old, wanted) {
  if (old.nodeType !== 1) {
    if (old.data !== wanted.data) old.data = wanted.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    // What the reader has opened or ticked is the reader's.
    if (!wanted.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  becomeChildren(old, wanted);
}

function becomeChildren(old, wanted) {
  const keyed = new Map();
  for (const child of old.childNodes) {
    const key = liveKey(child);
    if (key) keyed.set(key, child);
  }
  let next = old.firstChild;
  for (const child of [...wanted.childNodes]) {
    const key = liveKey(child);
    let found = key ? keyed.get(key) : null;
    if (found) keyed.delete(key);
    if (!key && next && !liveKey(next) && next.nodeName === child.nodeName) found = next;
    if (!found) {
      old.insertBefore(child, next);
      continue;
    }
    if (found !== next) old.insertBefore(found, next);
    becomes(found, child);
    next = found.nextSibling;
  }
  while (next) {
    const after = next.nextSibling;
    next.remove();
    next = after;
  }
}

function showLive({ parentElement, data, setStateValue, setTriggerValue }) {
  const sheet = parentElement.querySelector(".qs-live");
  if (sheet.shown !== data.html) {
    const wanted = document.createElement("template");
    wanted.innerHTML = data.html;
    becomeChildren(sheet, wanted.content);
    sheet.shown = data.html;
  }
  sheet.onclick = (event) => {
    const button = event.target.closest("button[data-of]");
    if (button && !button.disabled) {
      setTriggerValue("chosen", [button.dataset.of, button.dataset.value]);
    }
  };
  sheet.onchange = (event) => {
    if (!event.target.matches(".qs-tick")) return;
    setStateValue("ticked", [...sheet.querySelectorAll(".qs-tick:checked")]
      .map((box) => box.dataset.value));
  };
}
