// The printed page: light, with the charts as wide as the paper.
import { viewEnd } from "../charts/live_end.js";
import { durationText, offsetText, wallText } from "../ui/time.js";

/** @import { View } from "../answers.d.ts" */

/**
 * Calls `print` with what the charts are to be drawn for: "paper" while its width is not known,
 * "sheet" once the page is laid out for it, null for the screen again.
 * @param {(where: "paper" | "sheet" | null) => void} print
 */
export function followPrinting(print) {
  const media = matchMedia("print");
  addEventListener("beforeprint", () => print("paper"));
  media.addEventListener("change", () => print(media.matches ? "sheet" : null));
  addEventListener("afterprint", () => print(null));
}

/**
 * What a sheet shows in place of the controls: its range, its time zone, and the age of its data.
 * @param {{
 *   view: View, zoom: number[] | null, zone: string, offset: number, stepWords: string,
 *   asOf: number | null, now: number,
 * }} shown
 */
export function printedWords({ view, zoom, zone, offset, stepWords, asOf, now }) {
  const moment = (/** @type {number} */ at) => wallText(at, offset);
  const [from, to] = zoom ?? [view.from, viewEnd(view)];
  const range = view.range && !zoom ? `The last ${view.range}: ` : "";
  const first = `${range}${moment(from)} to ${moment(to)}, a point every ${stepWords}.`;
  const words = [`Times are in ${zone === "UTC" ? "UTC" : `${zone} (${offsetText(offset)})`}.`];
  if (view.by) words.push(`Broken down by ${view.by}.`);
  words.push(asOf === null ? "There are no data."
    : `Data as of ${moment(asOf)}, ${durationText(now - asOf)} old when printed.`);
  return `${first}\n${words.join(" ")}`;
}
