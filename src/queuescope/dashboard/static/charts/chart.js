// One chart: its heading, its state, its figure and what lies over it.
import { part, svgElement, textElement } from "../ui/elements.js";
import { Refused } from "../ui/request.js";
import { chartMessage, hasCurves, STATE_WORDS } from "../ui/states.js";
import { plainText, sentence } from "../ui/text.js";
import { ageText, momentText } from "../ui/time.js";
import { roomForLabels } from "./axes.js";
import { chartDetails, chartNotes, Details } from "./details.js";
import { drawnCurves, plotlyTrace, tokenResolver, withLive } from "./figure.js";
import { chartLayout } from "./layout.js";
import { LiveEnds, liveEndWords, viewEnd } from "./live_end.js";
import { Marks } from "./marks.js";
import { Plot } from "./plot.js";
import { LOAD_ICON, saveDrawnPoints, savePicture, saveReadPoints, TABLE_ICON } from "./saving.js";
import { Strip } from "./strip.js";

/** @import { Card, Curve, Flow, KeptAnswer, Panel, Trace, View } from "../answers.d.ts" */
/** @import { Refusal } from "../ui/refusal.js" */
/** @import { PlotlyTrace } from "./figure.js" */
/** @import { Mark } from "./marks.js" */
/** @import { Drawn } from "./saving.js" */
/**
 * What all charts of the page share. `zoom` is the part of the view that is shown (epoch seconds);
 * `axes` counts what is none of the reader's zooms any more; `now` is by Prometheus's clock; `answer`
 * is the one that a panel is of.
 * @typedef {{
 *   view: View, zone: string, offset: number, zoom: number[] | null, axes: number, isLog: boolean,
 *   base: string, isUnmeasured: boolean, now: () => number, answer: (panel: Panel) => KeptAnswer,
 *   page: () => { problem: string, next: string, lastSeen?: number | null, version?: string },
 * }} Context
 */
/**
 * @typedef {{
 *   onZoom: (window: number[]) => void, onReset: () => void,
 *   onPoint: (source: Chart, at: number | null) => void,
 *   onScale: (scale: "linear" | "log") => void, onRefused: (refusal: Refusal) => void,
 * }} ChartEvents
 */

/** @type {Record<string, string>} */
const ORIGINS = { broker: "the broker", job_history: "the job history" };
/** @type {Record<string, string>} */
const DASHES = { dash: "5 4", dot: "2 3", dashdot: "5 3 2 3" };

// For browsers that lay the page out for print before they know the width of the paper: what fits on
// A4 and Letter at the scale of print.css.
const PAPER = { width: 840, height: 145 };

export class Chart {
  /** @type {Panel | null} */
  #panel = null;
  /** @type {Panel | null} The same panel, at a finer step where there is one. */
  #shown = null;
  /** @type {Context | null} */
  #context = null;
  /** @type {Curve[]} */
  #curves = [];
  /** @type {Card | null} The card's figure. */
  #live = null;
  /** @type {Strip | null} */
  #strip = null;
  /** @type {{ of: string, l: number }} */
  #room = { of: "", l: 0 };
  #marksNote = "";

  /**
   * @param {HTMLElement} element @param {Record<string, any>} layout what all charts have in common
   * @param {boolean} isFirst @param {ChartEvents} events
   */
  constructor(element, layout, isFirst, events) {
    this.element = element;
    this.layout = layout;
    this.events = events;
    this.id = element.dataset.panel ?? "";
    this.drawn = Promise.resolve();
    this.canvas = this.#part("canvas");
    this.marks = new Marks(this.canvas, isFirst);
    this.ends = new LiveEnds(this.canvas);
    this.scale = this.#part("scale");
    this.scale.addEventListener("click", () => events.onScale(this.#context?.isLog ? "linear" : "log"));
    this.about = this.#part("open");
    this.details = new Details(this.#part("details"), this.about);
    this.about.addEventListener("click", () => this.#openDetails(!this.details.isOpen));
    element.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.details.isOpen) return;
      this.#openDetails(false);
      this.about.focus();
    });
    this.plot = new Plot(this.#part("plot"), this.#part("crosshair"), {
      onZoom: events.onZoom,
      onReset: events.onReset,
      onHover: (at) => events.onPoint(this, at),
      onUnhover: () => events.onPoint(this, null),
      onMoved: () => this.#placeOverlays(),
    });
    /** @type {Record<string, () => void>} */
    const saves = {
      picture: () => this.#save(savePicture),
      drawn: () => this.#save(saveDrawnPoints),
      read: () => this.#save(saveReadPoints),
    };
    // The buttons over a chart are too small for a finger, so the details have them, too.
    for (const button of this.details.box.querySelectorAll("button")) {
      button.addEventListener("click", saves[button.dataset.save ?? ""]);
    }
    this.saveButtons = [
      { name: "save", title: "Save as PNG", icon: Plotly.Icons.camera, click: saves.picture },
      { name: "drawn", title: "Save what is drawn as CSV", icon: TABLE_ICON, click: saves.drawn },
      { name: "read", title: "Save all points that were read as CSV", icon: LOAD_ICON, click: saves.read },
    ];
  }

  /** @param {string} name */
  #part(name) {
    return part(this.element, `.qs-${name}`);
  }

  /**
   * Draws `panel`, with the points of `fine` if given: the same panel at a finer step.
   * @param {Panel} panel @param {Panel | undefined} fine @param {Context} context
   */
  show(panel, fine, context) {
    this.#panel = panel;
    this.#context = context;
    const shown = this.#shown = fine ?? panel;
    // Arrivals and completions are shown with the queue depth.
    if (panel.role === "depth") this.#strip ??= new Strip(this.canvas, this.#part("key"));
    this.element.dataset.state = panel.state;
    if (panel.asOf) this.element.dataset.asOf = new Date(panel.asOf * 1000).toISOString();
    else delete this.element.dataset.asOf;
    this.busy(false);
    this.#part("point").textContent = [shown.figure.point, shown.note].filter(Boolean).join(", ");
    this.#part("more").textContent = panel.hidden ? `${panel.hidden} more` : "";
    this.#part("more").hidden = !panel.hidden;
    this.scale.hidden = panel.kind !== "latency";
    this.scale.setAttribute("aria-pressed", String(context.isLog));
    this.#showProblem("");
    this.showState();
    this.#drawAnew();
  }

  /**
   * Shows the figure of the card, or none, in the heading and at the end of the curves, so that card
   * and chart agree.
   * @param {Card | null} card
   */
  showLive(card) {
    const before = JSON.stringify(this.#live?.ends);
    this.#live = card;
    if (!this.#panel) return;
    this.#showNow();
    if (JSON.stringify(card?.ends) !== before && this.#panel.state !== "stale") this.#drawAnew();
  }

  /** How arrival went against completion. @param {(Flow | null)[]} flows from coarse to fine */
  showFlows(flows) {
    if (!this.#strip) return;
    this.#strip.show(flows);
    // The tooltip of the curve includes its words.
    this.#drawAnew();
  }

  /** @param {Mark[]} marks @param {string} note what is not known of them */
  showMarks(marks, note) {
    this.marks.show(marks);
    this.#marksNote = note;
    this.#placeOverlays();
    this.showState();
  }

  /** Updates what depends on the clock. */
  showState() {
    const panel = this.#panel, shown = this.#shown, context = this.#context;
    if (!panel || !shown || !context) return;
    this.#showNow();
    const badge = this.#part("badge");
    const age = panel.state === "stale" && panel.asOf ? `, ${ageText(context.now() - panel.asOf)}` : "";
    badge.textContent = STATE_WORDS[panel.state] + age;
    // A phone has no room for this word.
    if (age) badge.append(textElement("span", " old", "qs-wide"));
    badge.hidden = !badge.textContent;
    badge.title = panel.cause || panel.warnings.join("\n");
    this.#part("notes").textContent = hasCurves(panel.state)
      ? [chartNotes(panel, shown, context), this.#marksNote].filter(Boolean).join(" ") : "";
    this.#part("warning").dataset.tone = panel.state === "partial" ? "bad" : "note";
    const { title, text } = chartMessage(panel, context.isUnmeasured);
    this.#message(title, text);
    this.#showDetails();
  }

  /** Before the first answer there is nothing but the reason why. @param {string} cause */
  fail(cause) {
    this.element.dataset.state = "unavailable";
    this.#message("No data to show", cause);
  }

  /** @param {boolean} on */
  busy(on) {
    if (on) this.element.setAttribute("aria-busy", "true");
    else this.element.removeAttribute("aria-busy");
  }

  /** Draws the chart again for the paper or the screen. @param {"paper" | "sheet" | null} where see `followPrinting` */
  print(where) {
    // Outside the plot, where long names have room.
    const hasLegend = where !== null && this.#part("message").hidden && this.#panel?.figure.layout.showlegend;
    this.#part("legend").replaceChildren(...(hasLegend ? this.#visibleCurves() : []).map(({ trace }) => legendEntry(trace)));
    this.plot.paper = where === "sheet" ? this.plot.screenSize : where && PAPER;
    this.#drawAnew();
  }

  /** @param {number | null} at what the reader points to, here */
  point(at) {
    this.plot.point(at);
  }

  /** @param {number | null} at what the reader points to, on another chart */
  echo(at) {
    this.plot.echo(at);
  }

  /** @param {number[]} window */
  async zoomTo(window) {
    await this.drawn;
    await this.plot.showWindow(window);
  }

  /** Resets the axes to the whole view. */
  async reset() {
    await this.drawn;
    if (this.#context) await this.plot.showWindow([this.#context.view.from, viewEnd(this.#context.view)], true);
  }

  // The present value, with a remark if it is partial, or older than the chart.
  #showNow() {
    const panel = this.#panel, context = this.#context;
    if (!panel || !context) return;
    const now = this.#live ?? panel.now;
    const line = this.#part("now");
    line.replaceChildren();
    line.dataset.state = now?.state ?? "";
    line.toggleAttribute("data-live", now !== null && now.origin !== "prometheus");
    line.title = "";
    if (!now) return;
    const from = now.asOf ? `From ${ORIGINS[now.origin] ?? "Prometheus"}, as of ${momentText(now.asOf, context.zone, context.now())}.` : "";
    line.title = [from, now.cause && sentence(now.cause), ...now.warnings].filter(Boolean).join("\n");
    line.append(`${now.late ? panel.nowLabel.replace(/now$/, now.late) : panel.nowLabel} `, textElement("strong", now.words));
    if (now.state === "partial") line.append(", partial");
    else if (now.state === "stale" && panel.state !== "stale" && now.asOf !== null) {
      line.append(`, ${ageText(context.now() - now.asOf)} old`);
    }
  }

  /** @param {boolean} open */
  #openDetails(open) {
    this.details.open(open);
    this.#showDetails();
  }

  #showDetails() {
    if (!this.details.isOpen || !this.#panel || !this.#shown || !this.#context) return;
    this.details.show(chartDetails(this.#panel, this.#shown, this.#context));
  }

  /** @param {string} title without it, the text is in a line below the chart @param {string} text */
  #message(title, text) {
    this.#part("message").hidden = !title;
    this.#part("message-title").textContent = title;
    this.#part("message-text").textContent = title ? text : "";
    const warning = this.#part("warning");
    warning.textContent = title ? "" : text;
    warning.hidden = !warning.textContent;
  }

  #drawAnew() {
    this.drawn = this.drawn.then(() => this.#draw()).catch((error) => {
      // A chart that cannot be drawn says so, and leaves the others alone.
      console.error(error);
      this.#message("This chart could not be drawn.", String(error.message || error));
    });
  }

  async #draw() {
    const panel = this.#panel, shown = this.#shown, context = this.#context;
    if (!panel || !shown || !context) return;
    const size = this.plot.size;
    const resolve = tokenResolver(this.element);
    const hasDurations = panel.kind === "latency";
    const isLog = context.isLog && hasDurations;
    const curves = this.#curves = drawnCurves(panel, shown, context.view, this.#live?.ends);
    this.ends.show(curves.map(({ trace, live }) => ({ uid: trace.uid, end: live })));
    const live = curves.find((curve) => curve.live)?.live;
    if (live) this.element.dataset.live = new Date(live.at * 1000).toISOString();
    else delete this.element.dataset.live;
    const data = curves.map((curve) => plotlyTrace(curve, context.offset, resolve, isLog));
    this.#addTooltips(panel, curves, data);
    const layout = chartLayout({
      common: this.layout, panel, shown, context, curves, data, resolve, isLog,
      width: size.width, hasLegend: this.plot.paper === null,
    });
    layout.margin = { ...layout.margin, ...this.#roomFor(context.view, data, layout) };
    await this.plot.draw(data, layout, this.saveButtons, { ...size, offset: context.offset, hasDurations });
  }

  /**
   * Adds to the tooltips: arrivals and completions to the first curve, the open step to each.
   * @param {Panel} panel @param {Curve[]} curves @param {PlotlyTrace[]} data
   */
  #addTooltips(panel, curves, data) {
    const strip = this.#strip?.flows.length ? this.#strip : null;
    for (const [n, curve] of curves.entries()) {
      const flows = n === 0 ? strip : null;
      if (!flows && !curve.live) continue;
      const { times } = withLive(curve);
      const texts = times.map((at) => flows?.textAt(at) ?? "").map((text) => (text ? `<br>${text}` : ""));
      if (curve.live && times.length > curve.times.length) {
        texts[times.length - 1] = liveEndWords(curve.live, panel.kind);
      }
      data[n].text = texts;
      data[n].hovertemplate += "%{text}";
    }
  }

  /**
   * The margins. They grow with the labels, but shrink only with another view, so that a refresh does
   * not move what is under the pointer.
   * @param {View} view @param {PlotlyTrace[]} data @param {Record<string, any>} layout
   */
  #roomFor(view, data, layout) {
    const room = roomForLabels(data, { showlegend: layout.showlegend, yaxis: layout.yaxis });
    const of = `${view.range} ${view.step} ${view.by}`;
    if (of === this.#room.of) room.l = Math.max(room.l, this.#room.l);
    this.#room = { of, l: room.l };
    return room;
  }

  // What lies over the chart follows the axes.
  #placeOverlays() {
    const view = this.#context?.view;
    const place = view && this.plot.place(viewEnd(view), view.live !== null);
    if (!place) return;
    this.#strip?.place(place);
    this.marks.place(place);
    this.ends.place(place, this.plot.element);
  }

  #visibleCurves() {
    const visible = this.plot.visible;
    return this.#curves.filter((curve) => visible.has(curve.trace.uid));
  }

  /** @param {(drawn: Drawn) => Promise<string>} save gives why there is no file */
  async #save(save) {
    const axis = this.plot.xaxis;
    if (!this.#panel || !this.#shown || !this.#context || !axis) {
      this.#showProblem("nothing is drawn here.");
      return;
    }
    this.#showProblem("");
    try {
      this.#showProblem(await save({
        panel: this.#panel, shown: this.#shown, context: this.#context, curves: this.#curves,
        visible: this.#visibleCurves(), plot: this.plot.element, axis,
        width: this.plot.width, height: this.plot.height,
      }));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.events.onRefused(error.refusal);
    }
  }

  /** Why there is no file. @param {string} problem */
  #showProblem(problem) {
    const line = this.#part("unsaved");
    line.textContent = problem && `Not saved: ${problem}`;
    line.hidden = !problem;
  }
}

/** @param {Trace} trace */
function legendEntry({ name, line }) {
  const entry = document.createElement("span");
  const sign = svgElement("svg", { width: 22, height: 10, "aria-hidden": "true" });
  const stroke = svgElement("line", {
    x1: 0, x2: 22, y1: 5, y2: 5, "stroke-dasharray": DASHES[line.dash ?? ""] ?? "none",
  });
  // Colours of a figure are variables of the theme.
  stroke.style.stroke = line.color;
  sign.append(stroke);
  entry.append(sign, plainText(name));
  return entry;
}
