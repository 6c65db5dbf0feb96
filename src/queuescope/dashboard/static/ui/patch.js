// Updates elements in place, so that focus, scroll position and what the reader has opened survive a
// refresh.

const KEYS = ["key", "value"];

/** The key of an element that has one. @param {Node} node */
function keyOf(node) {
  if (!(node instanceof HTMLElement || node instanceof SVGElement)) return null;
  const name = KEYS.find((one) => node.dataset[one] !== undefined);
  return name ? `${node.nodeName}/${node.dataset.of ?? ""}/${node.dataset[name]}` : null;
}

/** @param {ChildNode} old @param {ChildNode} wanted */
function patch(old, wanted) {
  if (!(old instanceof Element && wanted instanceof Element)) {
    if (old.nodeValue !== wanted.nodeValue) old.nodeValue = wanted.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) {
    // The reader decides what is open.
    if (!wanted.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  patchChildren(old, wanted);
}

/** @param {ParentNode & Node} old @param {ParentNode & Node} wanted */
export function patchChildren(old, wanted) {
  /** @type {Map<string, ChildNode>} */
  const keyed = new Map();
  for (const child of old.childNodes) {
    const key = keyOf(child);
    if (key) keyed.set(key, child);
  }
  let next = /** @type {ChildNode | null} */ (old.firstChild);
  for (const child of [...wanted.childNodes]) {
    const key = keyOf(child);
    let found = key ? keyed.get(key) : null;
    if (key && found) keyed.delete(key);
    if (!key && next && !keyOf(next) && next.nodeName === child.nodeName) found = next;
    if (!found) {
      old.insertBefore(child, next);
      continue;
    }
    if (found !== next) old.insertBefore(found, next);
    patch(found, child);
    next = /** @type {ChildNode | null} */ (found.nextSibling);
  }
  while (next) {
    const after = /** @type {ChildNode | null} */ (next.nextSibling);
    next.remove();
    next = after;
  }
}
