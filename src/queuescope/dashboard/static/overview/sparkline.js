// The last day of a card's figure, as a line.

const WIDTH = 100, HEIGHT = 28;

/** @param {string} base64 of little-endian float32 */
export function floatsOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return [...new Float32Array(bytes.buffer)];
}

/**
 * The SVG paths of the line and of the area below it, in a box of 100 by 28. Gaps stay gaps.
 * @param {number[]} values
 */
export function sparklinePaths(values) {
  const finite = values.filter(Number.isFinite);
  const top = Math.max(...finite), bottom = Math.min(0, ...finite);
  const x = (/** @type {number} */ i) => ((i / Math.max(1, values.length - 1)) * WIDTH).toFixed(2);
  const y = (/** @type {number} */ value) => (
    top > bottom ? HEIGHT - 1 - ((value - bottom) / (top - bottom)) * (HEIGHT - 2) : HEIGHT - 1
  ).toFixed(2);
  let line = "", area = "";
  for (let from = 0; from < values.length; from += 1) {
    if (!Number.isFinite(values[from])) continue;
    let to = from;
    while (Number.isFinite(values[to + 1])) to += 1;
    const points = values.slice(from, to + 1).map((value, n) => `${x(from + n)} ${y(value)}`).join("L");
    // A lone point between gaps is a short dash, not nothing.
    line += `M${points}${to === from ? "h0.8" : ""}`;
    area += `M${x(from)} ${HEIGHT}L${points}L${x(to)} ${HEIGHT}Z`;
    from = to;
  }
  return { line, area };
}
