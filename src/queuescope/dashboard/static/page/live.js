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

function ticks(sheet) {
  return [...sheet.querySelectorAll(".qs-tick")];
}

// A job may stand in several tables of a page: it is ticked in all of them, or in none.
function tickTwins(box) {
  const alike = (other) => other.dataset.value === box.dataset.value;
  const sheets = [...document.querySelectorAll(".qs-live")].filter((one) => ticks(one).some(alike));
  for (const twin of sheets.flatMap(ticks).filter(alike)) twin.checked = box.checked;
  tellInTurn(sheets);
}

// What is told in one turn goes to the server as news of one part of the page alone.
function tellInTurn([first, ...others]) {
  first.tellTicks();
  if (others.length) setTimeout(() => tellInTurn(others));
}

// Boxes that have just come onto the page are as their twins that stood there before.
function followTwins(sheet) {
  sheet.boxes ??= new WeakSet();
  const fresh = ticks(sheet).filter((box) => !sheet.boxes.has(box));
  if (!fresh.length) return;
  const before = new Map([...document.querySelectorAll(".qs-live")]
    .flatMap((other) => ticks(other).filter((box) => other.boxes?.has(box)))
    .map((box) => [box.dataset.value, box.checked]));
  let changed = false;
  for (const box of fresh) {
    sheet.boxes.add(box);
    const wanted = before.get(box.dataset.value) ?? box.checked;
    changed ||= box.checked !== wanted;
    box.checked = wanted;
  }
  if (changed) setTimeout(sheet.tellTicks);
}

function showLive({ parentElement, data, setStateValue, setTriggerValue }) {
  const sheet = parentElement.querySelector(".qs-live");
  sheet.tellTicks = () => {
    const ticked = ticks(sheet).filter((box) => box.checked).map((box) => box.dataset.value);
    setStateValue("ticked", [...new Set(ticked)]);
  };
  if (sheet.shown !== data.html) {
    const wanted = document.createElement("template");
    wanted.innerHTML = data.html;
    becomeChildren(sheet, wanted.content);
    sheet.shown = data.html;
    followTwins(sheet);
  }
  sheet.onclick = (event) => {
    const button = event.target.closest("button[data-of]");
    if (button && !button.disabled) {
      setTriggerValue("chosen", [button.dataset.of, button.dataset.value]);
    }
  };
  sheet.onchange = (event) => {
    if (event.target.matches(".qs-tick")) tickTwins(event.target);
  };
}
