// CSV files of points, with the same columns as the server's.
import { plainText } from "../ui/text.js";
import { withLive } from "./figure.js";

/** @import { Curve, Panel } from "../answers.d.ts" */

export const POINT_COLUMNS = [
  "panel", "unit", "breakdown", "quantile", "series", "from", "to", "zone", "time", "value", "step",
];

/**
 * ISO 8601 with the offset; milliseconds where there are any.
 * @param {number} epochSeconds @param {number} offset
 */
function pointTime(epochSeconds, offset) {
  const at = Math.round(epochSeconds * 1000);
  const wall = new Date(at + offset * 1000).toISOString().slice(0, at % 1000 ? 23 : 19);
  const minutes = Math.round(Math.abs(offset) / 60);
  const two = (/** @type {number} */ number) => String(number).padStart(2, "0");
  return `${wall}${offset < 0 ? "-" : "+"}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
}

/** @param {(string | number)[][]} rows */
export function csvText(rows) {
  const cell = (/** @type {string | number} */ value) => {
    const text = String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

/**
 * The rows of a curve as it is drawn. `cell` is the name for a spreadsheet, which could take some
 * names for a formula.
 * @param {Panel} panel @param {Curve} curve @param {number[]} window
 * @param {{ offset: number, zone: string }} place
 * @returns {{ at: number, isOpen: boolean, cells: (string | number)[] }[]}
 */
export function pointRows(panel, curve, window, { offset, zone }) {
  const name = plainText(curve.trace.cell ?? curve.trace.name);
  const quantile = panel.quantile || (panel.quantiles.includes(name) ? name : "");
  const ends = window.map((at) => pointTime(at, offset));
  const of = [panel.id, panel.unit, panel.by ?? "", quantile, name, ...ends, zone];
  const { times, values } = withLive(curve);
  return times.map((at, i) => {
    const isOpen = i >= curve.times.length;
    return { at, isOpen, cells: [...of, pointTime(at, offset), values[i] ?? "", isOpen ? "open" : "closed"] };
  });
}
