// Finds elements and makes new ones; text is never parsed as HTML.

/**
 * The element below `root` that `selector` finds; an error if there is none of that type.
 * @template {Element} [T=HTMLElement]
 * @param {ParentNode} root @param {string} selector @param {{ new (): T }} [type]
 * @returns {T}
 */
export function part(root, selector, type) {
  const found = root.querySelector(selector);
  if (!(found instanceof (type ?? HTMLElement))) throw new Error(`the page lacks ${selector}`);
  return /** @type {T} */ (found);
}

/**
 * The element with that name in `data-qs`.
 * @template {Element} [T=HTMLElement]
 * @param {ParentNode} root @param {string} name @param {{ new (): T }} [type]
 * @returns {T}
 */
export function named(root, name, type) {
  return part(root, `[data-qs="${name}"]`, type);
}

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} name @param {string} text @param {string} [className]
 */
export function textElement(name, text, className = "") {
  const element = document.createElement(name);
  element.textContent = text;
  if (className) element.className = className;
  return element;
}

/** @param {string} name @param {Record<string, string | number>} attributes */
export function svgElement(name, attributes) {
  const element = /** @type {SVGElement} */ (document.createElementNS("http://www.w3.org/2000/svg", name));
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}

/**
 * A link to another page of the application.
 * @param {string} path @param {string} words
 */
export function linkElement(path, words) {
  const link = textElement("a", words, "qs-button qs-way");
  link.href = path;
  return link;
}

/**
 * The closest element around an event's target that matches `selector`.
 * @param {Event} event @param {string} selector
 */
export function closest(event, selector) {
  const found = event.target instanceof Element ? event.target.closest(selector) : null;
  return found instanceof HTMLElement ? found : null;
}
