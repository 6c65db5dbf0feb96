// All charts of the page, which share their time axis, zoom and crosshair.
import { Chart } from "./chart.js";
import { allAlerts, chartMarks, marksNote } from "./marks.js";
import { isAnswered } from "../ui/states.js";

/** @import { PastOperations, Alert, Card, Flow, KeptAnswer } from "../answers.d.ts" */
/** @import { ChartEvents, Context } from "./chart.js" */

export class Charts {
  /** @type {(Flow | null)[] | null} */
  #flows = null;

  /**
   * @param {HTMLElement} root @param {Record<string, any>} layout what all charts have in common
   * @param {Omit<ChartEvents, "onPoint">} events
   */
  constructor(root, layout, events) {
    const onPoint = (/** @type {Chart} */ source, /** @type {number | null} */ at) => this.#point(source, at);
    this.all = [...root.querySelectorAll("[data-panel]")].map((element, n) => new Chart(
      /** @type {HTMLElement} */ (element), layout, n === 0, { ...events, onPoint },
    ));
  }

  /** Resolves when all charts are drawn. */
  get drawn() {
    return Promise.all(this.all.map((chart) => chart.drawn));
  }

  /** @param {KeptAnswer} answer @param {KeptAnswer | null} fine the same at a finer step @param {Context} context */
  show(answer, fine, context) {
    for (const chart of this.all) {
      const panel = answer.panels.find(({ id }) => id === chart.id);
      chart.element.hidden = !panel;
      if (panel) chart.show(panel, fine?.panels.find(({ id }) => id === chart.id), context);
    }
  }

  /** Updates what depends on the clock. */
  showState() {
    for (const chart of this.all) chart.showState();
  }

  /** A chart ends with the figure of its card. @param {Card[]} cards */
  showLive(cards) {
    for (const chart of this.all) {
      const card = cards.find(({ panel }) => panel === chart.id);
      chart.showLive(card && isAnswered(card.state) ? card : null);
    }
  }

  /** Arrivals against completions. @param {(Flow | null)[]} flows from coarse to fine */
  showFlows(flows) {
    const shown = this.#flows;
    if (shown && flows.length === shown.length && flows.every((flow, n) => flow === shown[n])) return;
    this.#flows = flows;
    for (const chart of this.all) chart.showFlows(flows);
  }

  /**
   * Operations are marked on all charts, each alert on the chart of its panel.
   * @param {PastOperations | null | undefined} operations @param {Alert[]} active
   * @param {{ list: Alert[], more: number }} recorded @param {(at: number) => string} moment
   */
  showMarks(operations, active, recorded, moment) {
    const alerts = allAlerts(active, recorded.list);
    const note = marksNote(operations, recorded.more, moment);
    for (const chart of this.all) {
      chart.showMarks(chartMarks(chart.id, operations?.list ?? [], alerts, moment), note);
    }
  }

  /** Before the first answer there is nothing but the reason why. @param {string} cause */
  fail(cause) {
    for (const chart of this.all) chart.fail(cause);
  }

  /** @param {boolean} on */
  busy(on) {
    for (const chart of this.all) chart.busy(on);
  }

  /** @param {"paper" | "sheet" | null} where see `followPrinting` */
  print(where) {
    for (const chart of this.all) chart.print(where);
  }

  /** @param {number[]} window */
  zoomTo(window) {
    for (const chart of this.all) chart.zoomTo(window);
  }

  /** Resets the axes to the whole view. */
  reset() {
    for (const chart of this.all) chart.reset();
  }

  /** Nothing drawn is left. */
  purge() {
    for (const chart of this.all) chart.plot.purge();
  }

  /** Scrolls to the chart of a panel. @param {string} panel */
  reveal(panel) {
    const element = this.all.find((chart) => chart.id === panel)?.element;
    if (!element) return;
    element.scrollIntoView({ block: "center", behavior: "smooth" });
    element.tabIndex = -1;
    element.focus({ preventScroll: true });
  }

  /** @param {Chart} source @param {number | null} at */
  #point(source, at) {
    for (const chart of this.all) {
      if (chart === source) chart.point(at);
      else chart.echo(at);
    }
  }
}
