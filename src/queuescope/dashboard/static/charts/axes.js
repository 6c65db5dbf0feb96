// The axes of a chart. Ticks of durations are whole seconds, minutes or hours, with their unit.
import { durationText, wallText } from "../ui/time.js";

/** @import { Kind } from "../answers.d.ts" */

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const DECADES = [0.001, 0.01, 0.1, 1, 10, 100];
const SPANS = [
  ...DECADES.flatMap((size) => [size, 2 * size, 5 * size]),
  ...[1, 2, 5, 10, 15, 30].map((n) => n * SECOND_MS),
  ...[1, 2, 5, 10, 15, 30].map((n) => n * MINUTE_MS),
  ...[1, 2, 3, 6, 12].map((n) => n * HOUR_MS),
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].map((n) => n * DAY_MS),
];
// On a logarithmic axis, from the finest to the coarsest.
const LADDERS = [
  SPANS,
  [...DECADES.flatMap((size) => [size, 3 * size]), ...[1, 3, 10, 30].map((n) => n * SECOND_MS),
    ...[1, 3, 10, 30].map((n) => n * MINUTE_MS), ...[1, 3, 10].map((n) => n * HOUR_MS),
    ...[1, 3, 10, 30, 100, 300, 1000].map((n) => n * DAY_MS)],
  [...DECADES, ...[1, 10].map((n) => n * SECOND_MS), ...[1, 10].map((n) => n * MINUTE_MS),
    ...[1, 10].map((n) => n * HOUR_MS), ...[1, 10, 100, 1000].map((n) => n * DAY_MS)],
];
const MOST_TICKS = 7;

/** Where zero is drawn on a logarithmic axis, which has no place for it. */
export const LEAST_MS = 1;

/** @param {number} ms */
export function tickText(ms) {
  if (ms < SECOND_MS) return ms ? `${Number(ms.toPrecision(3))} ms` : "0";
  return ms < MINUTE_MS ? `${Number((ms / SECOND_MS).toPrecision(3))} s` : durationText(ms / SECOND_MS);
}

/**
 * The ticks of an axis from `low` to `high` (milliseconds), as Plotly takes them.
 * @param {number} low @param {number} high @param {boolean} isLog
 */
export function durationTicks(low, high, isLog) {
  const values = isLog ? logTicks(low, high) : linearTicks(low, high);
  return { tickmode: "array", tickvals: values, ticktext: values.map(tickText) };
}

/** @param {number} low @param {number} high */
function logTicks(low, high) {
  const inside = LADDERS.map((ladder) => ladder.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001));
  return inside.find((ticks) => ticks.length <= MOST_TICKS) ?? inside[inside.length - 1];
}

/** @param {number} low @param {number} high */
function linearTicks(low, high) {
  const step = SPANS.find((span) => (high - low) / span <= MOST_TICKS - 1) ?? SPANS[SPANS.length - 1];
  const values = [];
  for (let n = Math.ceil(low / step - 1e-6); n * step <= high * 1.001; n += 1) values.push(n * step);
  return values;
}

/**
 * About the range that Plotly will choose for the values, the limits (`more`) and the live ends.
 * @param {{ y: (number | null)[] }[]} data @param {number[]} more @param {boolean} isLog
 */
export function expectedRange(data, more, isLog) {
  let [low, high] = [Infinity, 0];
  for (const value of [...data.flatMap(({ y }) => y), ...more]) {
    if (value === null || !(value > 0)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (!high) return [isLog ? LEAST_MS : 0, SECOND_MS];
  return isLog ? [low / 1.2, high * 1.2] : [0, high * 1.06];
}

/**
 * The ends of a value axis, in milliseconds.
 * @param {Pick<PlotlyAxis, "range" | "type">} axis
 */
export function axisEnds(axis) {
  return axis.range.map((end) => (axis.type === "log" ? 10 ** Number(end) : Number(end)));
}

/**
 * The range of the value axis for a zoomed window; Plotly's own includes the points outside of it.
 * Null where the window has no points.
 * @param {Kind} kind @param {{ x: string[], y: (number | null)[] }[]} data
 * @param {string[]} window @param {boolean} [isLog]
 */
export function visibleRange(kind, data, [from, to], isLog = false) {
  let low = Infinity;
  let high = -Infinity;
  for (const { x, y } of data) {
    for (const [i, value] of y.entries()) {
      if (value !== null && x[i] >= from && x[i] <= to) {
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
    }
  }
  if (low > high) return null;
  if (isLog) return [Math.log10(low / 1.2), Math.log10(high * 1.2)];
  if (kind === "percent") return [Math.max(-0.5, low - Math.max(0.5, (100 - low) * 0.06)), 100.5];
  return [0, high > 0 ? high * 1.06 : 1];
}

/**
 * Margins with room for the usual labels: Plotly draws the whole chart a second time when a margin
 * has to grow.
 * @param {{ y: (number | null)[] }[]} data
 * @param {{ showlegend?: boolean, yaxis: { ticktext?: string[] } }} layout
 */
export function roomForLabels(data, { showlegend, yaxis }) {
  let high = 0;
  for (const { y } of data) {
    for (const value of y) if (value !== null && value > high) high = value;
  }
  const texts = yaxis.ticktext ?? [Math.round(high * 1.06).toLocaleString("en-US")];
  const widest = Math.max(3, ...texts.map((text) => text.length));
  return { l: 32 + 7 * widest, b: 64, t: showlegend ? 47 : 18 };
}

/**
 * Shades the time before the data begin, so that the empty space does not look like an empty queue.
 * @param {number} from @param {number} start @param {number} offset
 */
export function beforeData(from, start, offset) {
  return {
    type: "rect", xref: "x", yref: "paper", y0: 0, y1: 1, layer: "below",
    x0: wallText(from, offset), x1: wallText(start, offset),
    fillcolor: "var(--qs-raised)", line: { width: 0 },
  };
}
