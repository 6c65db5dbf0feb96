// The live end of each curve: a dot at its present value, which moves with each refresh until the step
// is complete. A value that is known only between two bounds is drawn as a bar, and a thin line leads
// to the worst value of the open step so far.
import { svgElement } from "../ui/elements.js";
import { durationText } from "../ui/time.js";
import { LEAST_MS } from "./axes.js";

/** @import { CardEnd, Kind, LiveEnd, View } from "../answers.d.ts" */
/** @import { Place } from "./plot.js" */

const DOT_RADIUS = 4;
/** @type {Record<Kind, string>} */
const WORST = { count: "highest", percent: "lowest", latency: "all" };

/** Where the time axis of a view ends. @param {View} view */
export function viewEnd(view) {
  return view.live ?? view.to;
}

/**
 * The text in the tooltip after the present value.
 * @param {LiveEnd} end @param {Kind} kind
 */
export function liveEndWords({ at, from, over, soFarWords }, kind) {
  const what = over ? `, the last ${over}` : ", now";
  return soFarWords
    ? `${what}<br>${WORST[kind]} of the last ${durationText(at - from)}: ${soFarWords}` : what;
}

/**
 * `live` with the figure of a card, which may be worse than the open step so far.
 * @param {LiveEnd} live @param {CardEnd} end @param {Kind} kind @returns {LiveEnd}
 */
export function withFigure(live, end, kind) {
  const worst = end.between ? end.between[1] ?? Infinity : end.value;
  const isWorse = live.soFar !== null && (kind === "percent" ? live.soFar < worst : live.soFar > worst);
  return { ...live, ...end, ...(isWorse ? {} : { soFar: null, soFarWords: "" }) };
}

/**
 * The values of live ends that the value axis must include besides the curves.
 * @param {(LiveEnd | null)[]} ends
 */
export function endExtremes(ends) {
  return ends.flatMap((end) => [end?.soFar, ...(end?.between ?? [])])
    .filter((value) => typeof value === "number" && Number.isFinite(value));
}

export class LiveEnds {
  /** @type {{ uid: string, end: LiveEnd | null }[]} in the order of the traces */
  #ends = [];

  /** @param {HTMLElement} canvas */
  constructor(canvas) {
    this.svg = svgElement("svg", { class: "qs-ends", "aria-hidden": "true" });
    canvas.append(this.svg);
  }

  /** @param {{ uid: string, end: LiveEnd | null }[]} ends */
  show(ends) {
    this.#ends = ends;
  }

  /**
   * Draws the ends over the present axes; a hidden curve has none.
   * @param {Place} place @param {PlotlyElement} plot
   */
  place({ left, top, width, height, x }, plot) {
    const axis = plot._fullLayout?.yaxis;
    if (!axis) return;
    this.svg.style.left = `${left}px`;
    this.svg.style.top = `${top}px`;
    this.svg.setAttribute("width", String(width));
    this.svg.setAttribute("height", String(height));
    const drawn = (/** @type {number} */ value) => axis.d2p(axis.type === "log" ? Math.max(value, LEAST_MS) : value);
    const y = (/** @type {number | null} */ value) => Math.min(height, Math.max(0, value === null ? 0 : drawn(value)));
    const shapes = this.#openStep(width, height, x);
    for (const trace of plot._fullData ?? []) {
      const end = this.#ends.find(({ uid }) => uid === trace.uid)?.end;
      if (!end || trace.visible !== true) continue;
      const cx = x(end.at);
      if (cx < 0 || cx > width + 1) continue;
      const add = (/** @type {SVGElement} */ shape) => {
        shape.style.stroke = trace.line.color;
        shapes.push(shape);
      };
      const line = (/** @type {number} */ from, /** @type {number | null} */ to, /** @type {string} */ kind) => svgElement("line", {
        x1: cx.toFixed(1), x2: cx.toFixed(1), y1: y(from).toFixed(1), y2: y(to).toFixed(1), class: kind,
      });
      if (end.soFar !== null) add(line(end.value, end.soFar, "qs-so-far"));
      const cy = drawn(end.value);
      if (end.between) add(line(...end.between, "qs-between"));
      else if (cy >= -1 && cy <= height + 1) {
        add(svgElement("circle", { cx: cx.toFixed(1), cy: cy.toFixed(1), r: DOT_RADIUS }));
      }
    }
    this.svg.replaceChildren(...shapes);
  }

  /**
   * Shades the open step, so that its value is not taken for that of a whole step.
   * @param {number} width @param {number} height @param {(at: number) => number} x
   */
  #openStep(width, height, x) {
    const open = this.#ends.find(({ end }) => end)?.end;
    if (!open) return [];
    const [from, to] = [open.from, open.at].map((at) => Math.min(width, Math.max(0, x(at))));
    if (to <= from) return [];
    return [svgElement("rect", { x: from.toFixed(1), y: 0, width: (to - from).toFixed(1), height })];
  }
}
