// Small changes to texts.

/** @param {string} text */
export function sentence(text) {
  return /[.!?…]$/.test(text) ? text : `${text}.`;
}

/** @param {string} text */
export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/**
 * A number with its noun: "1 alert", "1,200 alerts".
 * @param {number} count @param {string} noun
 */
export function counted(count, noun) {
  return `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"}`;
}

/**
 * Undoes the escaping that the server does for Plotly, which reads names as HTML.
 * @param {string} name
 */
export function plainText(name) {
  return name.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}
