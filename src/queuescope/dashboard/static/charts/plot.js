// The Plotly side of a chart. It is updated in place, so that the reader's zoom, hover and legend
// choices stay.
import { epochOf, wallText } from "../ui/time.js";
import { axisEnds, durationTicks } from "./axes.js";

/**
 * The position of a chart's axes, in pixels within its canvas; `x` gives the position of an instant.
 * The chart has data up to `end`, which is the present if it `isLive`.
 * @typedef {{
 *   left: number, width: number, top: number, height: number, end: number, isLive: boolean,
 *   x: (at: number) => number,
 * }} Place
 */
/**
 * `onZoom` and `onHover` give epoch seconds; `onMoved` says that the axes may have moved.
 * @typedef {{
 *   onZoom: (window: number[]) => void, onReset: () => void, onHover: (at: number) => void,
 *   onUnhover: () => void, onMoved: () => void,
 * }} PlotEvents
 */

const CONFIG = {
  displaylogo: false,
  showSendToCloud: false,
  responsive: false,
  scrollZoom: false,
  doubleClick: false,
  showTips: false,
};

export class Plot {
  isDrawn = false;
  width = 0;
  height = 0;
  /** @type {number | null} */
  #pointedAt = null;
  #offset = 0;
  #hasDurations = false;
  // Above 0 while the page itself changes the axes, which is no zoom of the reader's.
  #silent = 0;

  /** @param {HTMLElement} element @param {HTMLElement} crosshair @param {PlotEvents} events */
  constructor(element, crosshair, events) {
    this.element = /** @type {PlotlyElement} */ (element);
    this.crosshair = crosshair;
    this.events = events;
    /** @type {{ width: number, height: number } | null} */
    this.paper = null;
    new ResizeObserver(() => this.#resized()).observe(element);
  }

  /** The size to draw at, on paper or on the screen. */
  get size() {
    return this.paper ?? this.screenSize;
  }

  get screenSize() {
    return { width: this.element.clientWidth, height: this.element.clientHeight };
  }

  get xaxis() {
    return this.element._fullLayout?.xaxis ?? null;
  }

  /**
   * `buttons` are over the chart while a pointer is there; the times of `data` are `offset`
   * seconds ahead of UTC.
   * @param {object[]} data @param {Record<string, any>} layout @param {object[]} buttons
   * @param {{ offset: number, hasDurations: boolean, width: number, height: number }} how
   */
  async draw(data, layout, buttons, { offset, hasDurations, width, height }) {
    this.#offset = offset;
    this.#hasDurations = hasDurations;
    layout.width = this.width = width;
    layout.height = this.height = height;
    // A finger scrolls the page over a chart; it zooms with the range selector.
    const isTouch = matchMedia("(pointer: coarse)").matches;
    if (isTouch) layout.dragmode = false;
    await Plotly.react(this.element, data, layout, {
      ...CONFIG, displayModeBar: isTouch ? false : "hover",
      modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", ...buttons]],
    });
    if (!this.isDrawn) this.#listen();
    this.isDrawn = true;
    // The size of the page may have changed meanwhile.
    this.#resized();
    this.events.onMoved();
    this.point(this.#pointedAt);
  }

  purge() {
    Plotly.purge(this.element);
  }

  /** The present position of the axes. @param {number} end @param {boolean} isLive @returns {Place | null} */
  place(end, isLive) {
    const layout = this.element._fullLayout;
    if (!layout?.xaxis?._length) return null;
    const { xaxis, _size: { t, h } } = layout;
    const [from, to] = xaxis.range.map((wall) => epochOf(String(wall), this.#offset));
    return {
      left: xaxis._offset, width: xaxis._length, top: t, height: h, end, isLive,
      x: (at) => ((at - from) / (to - from)) * xaxis._length,
    };
  }

  /** The uids of the curves that the reader has not hidden. */
  get visible() {
    return new Set((this.element._fullData ?? []).filter((one) => one.visible === true).map((one) => one.uid));
  }

  /** Shows the same instant as the chart under the pointer. @param {number | null} at */
  echo(at) {
    this.point(at);
    if (!this.isDrawn) return;
    this.#silent += 1;
    try {
      if (at === null) Plotly.Fx.unhover(this.element);
      else {
        const xval = Date.parse(`${wallText(at, this.#offset).replace(" ", "T")}Z`);
        Plotly.Fx.hover(this.element, { xval, yval: this.element._fullLayout?.yaxis.range[1] }, "xy");
      }
    } finally {
      this.#silent -= 1;
    }
  }

  /** @param {number | null} at */
  point(at) {
    this.#pointedAt = at;
    const layout = this.element._fullLayout;
    const x = at === null || !layout ? -1 : layout.xaxis.d2p(wallText(at, this.#offset));
    const isInside = layout !== undefined && x >= 0 && x <= layout.xaxis._length;
    this.crosshair.hidden = !isInside;
    if (!isInside) return;
    this.crosshair.style.left = `${layout.xaxis._offset + x}px`;
    this.crosshair.style.top = `${layout._size.t}px`;
    this.crosshair.style.height = `${layout._size.h}px`;
  }

  /**
   * @param {number[]} window epoch seconds
   * @param {boolean} [isWhole] a zoom in the value axis is undone too
   */
  async showWindow([from, to], isWhole = false) {
    if (!this.isDrawn) return;
    await this.#relayout({
      "xaxis.range": [wallText(from, this.#offset), wallText(to, this.#offset)],
      ...(isWhole ? { "yaxis.autorange": true } : {}),
    });
  }

  #listen() {
    const { element, events } = this;
    const heard = (/** @type {(event: any) => void} */ handle) => (/** @type {any} */ event) => {
      if (!this.#silent) handle(event);
    };
    element.on("plotly_relayout", heard((change) => {
      if (!("xaxis.range[0]" in change || "xaxis.range" in change) || !this.xaxis) return;
      events.onZoom(this.xaxis.range.map((wall) => epochOf(String(wall), this.#offset)));
    }));
    element.on("plotly_afterplot", () => {
      this.#fitTicks();
      events.onMoved();
    });
    element.on("plotly_relayouting", () => events.onMoved());
    element.on("plotly_doubleclick", () => events.onReset());
    element.on("plotly_hover", heard((event) => {
      if (event.points?.length) events.onHover(epochOf(event.points[0].x, this.#offset));
    }));
    element.on("plotly_unhover", heard(() => events.onUnhover()));
  }

  // The reader may have zoomed the values or hidden a curve.
  #fitTicks() {
    const axis = this.element._fullLayout?.yaxis;
    if (!axis || !this.#hasDurations) return;
    const [low, high] = axisEnds(axis);
    const ticks = durationTicks(low, high, axis.type === "log");
    if (String(ticks.ticktext) === String(this.element.layout.yaxis.ticktext)) return;
    this.#relayout({ "yaxis.tickvals": ticks.tickvals, "yaxis.ticktext": ticks.ticktext });
  }

  #resized() {
    const { width, height } = this.size;
    if (!this.isDrawn || !width || (width === this.width && height === this.height)) return;
    this.width = width;
    this.height = height;
    this.#relayout({ width, height });
  }

  /** @param {object} change */
  async #relayout(change) {
    this.#silent += 1;
    try {
      await Plotly.relayout(this.element, change);
    } finally {
      this.#silent -= 1;
    }
  }
}
