// The strip above the queue depth: arrivals against completions, as cells of different shapes. It lies
// over the chart and is not one of Plotly's curves.
import { svgElement } from "../ui/elements.js";
import { decodeValues } from "./figure.js";

/** @import { Flow, FlowAnswer } from "../answers.d.ts" */
/** @import { Place } from "./plot.js" */

/** @type {Record<string, string>} */
const FLOW_WORDS = {
  e: "nothing waits", c: "clearing", s: "steady", g: "growing",
  w: "none completed yet", x: "stalled",
};
/**
 * [top, bottom] of a cell within the strip's ten pixels: growing is above the middle line,
 * clearing hangs below it, steady keeps to it, and a stall fills all.
 * @type {Record<string, [top: number, bottom: number]>}
 */
const CELLS = { g: [0, 4.5], c: [5.5, 10], s: [4, 6], w: [4, 6], x: [0, 10] };
const STRIP_HEIGHT = 10;
const STRIP_TOP = 4;

/**
 * The server's answer with its numbers unpacked; null if it has none.
 * @param {FlowAnswer} answer @returns {Flow | null}
 */
export function decodeFlow(answer) {
  if (!answer.states) return null;
  return {
    ...answer,
    to: answer.from + (answer.states.length - 1) * answer.step,
    arrived: decodeValues(answer.arrivedPerMinute),
    completed: decodeValues(answer.completedPerMinute),
  };
}

/**
 * The step that ends at `at` (epoch seconds) in words; empty where nothing is known.
 * @param {Flow} flow @param {number} at
 */
export function flowWords(flow, at) {
  const n = Math.round((at - flow.from) / flow.step);
  const words = FLOW_WORDS[flow.states[n]];
  if (!words || Math.abs(flow.from + n * flow.step - at) > 0.5) return "";
  const rate = (/** @type {number | null} */ value) => {
    if (value === null) return "?";
    return value >= 10 || value === 0 ? Math.round(value) : value.toFixed(1);
  };
  return `${words}: ${rate(flow.arrived[n])} arrived, ${rate(flow.completed[n])} completed a minute`
    + ` in ${flow.windowWords[flow.windows[n]]}`;
}

/**
 * The cells of flows, from coarse to fine, as [state, from, to] in epoch seconds. Where flows overlap
 * the finer one counts; neighbours with the same state are one cell.
 * @param {Flow[]} flows
 */
export function flowCells(flows) {
  /** @type {[state: string, from: number, to: number][]} */
  const cells = [];
  const fine = flows[1];
  for (const flow of flows) {
    /** @type {[state: string, from: number, to: number] | null} */
    let last = null;
    for (let n = 0; n < flow.states.length; n += 1) {
      const to = flow.from + n * flow.step;
      const from = to - flow.step;
      // The step before the fine flow's first point belongs to the coarse one.
      const parts = fine && flow !== fine
        ? [[from, Math.min(to, fine.from)], [Math.max(from, fine.to), to]] : [[from, to]];
      for (const [a, b] of parts) {
        if (b <= a) continue;
        if (last && last[0] === flow.states[n] && last[2] === a) last[2] = b;
        else cells.push(last = [flow.states[n], a, b]);
      }
    }
  }
  return cells.filter(([state]) => state !== "-");
}

/** The legend of the shapes. @param {HTMLElement} key */
function fillKey(key) {
  for (const [state, words] of [["g", "grows"], ["c", "clears"], ["x", "stalls"]]) {
    const [top, bottom] = CELLS[state];
    const icon = svgElement("svg", { width: 10, height: STRIP_HEIGHT, "aria-hidden": "true" });
    icon.append(
      svgElement("path", { d: "M0 5H10", class: "qs-strip-line" }),
      svgElement("path", { d: `M0 ${top}H10V${bottom}H0Z`, class: `qs-strip-${state}` }),
    );
    const item = document.createElement("span");
    item.append(icon, words);
    key.append(item);
  }
}

export class Strip {
  /** @type {Flow[]} from coarse to fine */
  flows = [];

  /** @param {HTMLElement} canvas @param {HTMLElement} key */
  constructor(canvas, key) {
    this.key = key;
    fillKey(key);
    this.svg = svgElement("svg", { class: "qs-strip", role: "img", height: STRIP_HEIGHT });
    const path = (/** @type {string} */ name) => svgElement("path", { class: name });
    this.line = path("qs-strip-line");
    this.cells = Object.fromEntries(Object.keys(CELLS).map((state) => [state, path(`qs-strip-${state}`)]));
    this.svg.append(this.line, ...Object.values(this.cells));
    // Below the curves, and below what Plotly shows on hover.
    canvas.prepend(this.svg);
    this.show([]);
  }

  /** @param {(Flow | null)[]} flows from coarse to fine */
  show(flows) {
    this.flows = flows.filter((flow) => flow !== null);
    this.key.hidden = !this.flows.length;
    this.svg.style.display = this.flows.length ? "" : "none";
    const newest = this.flows.at(-1);
    if (!newest) return;
    const last = [...newest.states].findLastIndex((state) => state !== "-");
    const words = last < 0 ? "" : flowWords(newest, newest.from + last * newest.step);
    this.svg.setAttribute("aria-label", `Arrival against completion. Last: ${words || "not known"}`);
    this.svg.dataset.states = this.flows[0].states;
    this.svg.dataset.steps = this.flows.map((flow) => flow.step).join(" ");
  }

  /** The text in the tooltip of a point. @param {number} at */
  textAt(at) {
    return this.flows.reduce((coarse, flow) => flowWords(flow, at) || coarse, "");
  }

  /** Draws the strip over the present axis. @param {Place} place */
  place({ left, width, x }) {
    if (!this.flows.length) return;
    this.svg.style.left = `${left}px`;
    this.svg.style.top = `${STRIP_TOP}px`;
    this.svg.setAttribute("width", String(width));
    const drawn = Object.fromEntries(Object.keys(CELLS).map((state) => [state, ""]));
    let known = "";
    for (const [state, ...ends] of flowCells(this.flows)) {
      const [a, b] = ends.map((at) => Math.min(width, Math.max(0, x(at))));
      if (b - a <= 0) continue;
      known += `M${a.toFixed(1)} 5H${b.toFixed(1)}`;
      if (!(state in CELLS)) continue;
      const [top, bottom] = CELLS[state];
      drawn[state] += `M${a.toFixed(1)} ${top}H${b.toFixed(1)}V${bottom}H${a.toFixed(1)}Z`;
    }
    this.line.setAttribute("d", known);
    for (const [state, path] of Object.entries(this.cells)) path.setAttribute("d", drawn[state]);
  }
}
