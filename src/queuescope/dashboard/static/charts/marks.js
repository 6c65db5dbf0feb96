// Marks on the charts: operations, and alerts where they began. Marks that would cover each other are
// drawn as one, with their count. All words are set as text.
import { closest, textElement } from "../ui/elements.js";
import { counted, sentence } from "../ui/text.js";

/** @import { PastOperation, PastOperations, Alert } from "../answers.d.ts" */
/** @import { Place } from "./plot.js" */
/**
 * `until`, of what lasted, is null while it goes on.
 * @typedef {{ at: number, kind: "operation" | "alert", words: string, until?: number | null, state?: string }} Mark
 */
/** @typedef {(at: number) => string} Moment an instant in the reader's zone */
/** @typedef {Mark & { until: number | null }} LastingMark */

const MARK_DISTANCE = 16;
const TIP_WORDS = 6;
const MOST_LABEL_CHARACTERS = 1000;

/** @type {Record<string, string>} */
const RESULTS = { done: "done", failed: "failed", pending: "not finished yet", unknown: "not known whether it happened" };

/** @param {PastOperation} operation @param {string} moment */
function operationWords(operation, moment) {
  const result = RESULTS[operation.result] ?? operation.result;
  const detail = operation.result === "done" || !operation.detail ? "" : ` ${sentence(operation.detail)}`;
  return `${moment}  ${operation.actor}: ${operation.words}, ${result}.${detail}`;
}

/**
 * The labels of an alert, with its severity if another alert of the same name has a different one.
 * @param {Alert} alert @param {Alert[]} all
 */
function alertLabels(alert, all) {
  const differs = all.some((one) => one.name === alert.name && one.severity !== alert.severity);
  const severity = differs && alert.severity ? { severity: alert.severity } : {};
  return Object.entries({ ...severity, ...alert.labels }).map(([name, value]) => `${name}=${value}`).join(", ");
}

/**
 * `all` are the alerts of the chart: an active one that shares its name with others shows its labels.
 * @param {Alert} alert @param {Alert[]} all @param {Moment} moment
 */
function alertWords(alert, all, moment) {
  const labels = alertLabels(alert, all);
  const began = `${moment(alert.since)}  alert ${alert.name} began`;
  if (alert.until) {
    const what = alert.state === "firing" ? "fired" : "was pending";
    return sentence(`${began}; it ${what} until ${moment(alert.until)}${labels ? `: ${labels}` : ""}`);
  }
  const isAlone = all.every((one) => one === alert || one.name !== alert.name);
  const summary = alert.summary ? `: ${alert.summary}` : "";
  return sentence(`${began} and is ${alert.state}${labels && !isAlone ? ` (${labels})` : ""}${summary}`);
}

/**
 * The records of an active alert: the one with the same labels, or else those that have all of its
 * labels, since the recording server may add some.
 * @param {Alert} alert @param {Alert[]} recorded
 */
function recordsOf({ name, severity, labels, since }, recorded) {
  const same = recorded.filter((one) => one.name === name && one.severity === severity
    && Math.abs(one.since - since) < 1
    && Object.entries(labels).every(([label, value]) => one.labels[label] === value));
  const count = Object.keys(labels).length;
  const exact = same.filter((one) => Object.keys(one.labels).length === count);
  return exact.length ? exact : same;
}

/**
 * The active alerts and the recorded ones, each once. The active ones go first: they are newer, and
 * have a summary.
 * @param {Alert[]} active @param {Alert[]} recorded
 */
export function allAlerts(active, recorded) {
  const begun = active.filter((alert) => alert.since);
  const known = new Set(begun.flatMap((alert) => recordsOf(alert, recorded)));
  return [...begun, ...recorded.filter((alert) => !known.has(alert))];
}

/**
 * The marks of one chart, oldest first: all operations, and the alerts about its panel.
 * @param {string} panel @param {PastOperation[]} operations @param {Alert[]} alerts @param {Moment} moment
 * @returns {Mark[]}
 */
export function chartMarks(panel, operations, alerts, moment) {
  const own = alerts.filter((alert) => alert.panel === panel);
  /** @type {Mark[]} */
  const marks = [
    ...operations.map((operation) => ({ at: operation.at, kind: /** @type {const} */ ("operation"), words: operationWords(operation, moment(operation.at)) })),
    ...own.map((alert) => ({
      at: alert.since, until: alert.until ?? null, kind: /** @type {const} */ ("alert"), state: alert.state,
      words: alertWords(alert, own, moment),
    })),
  ];
  return marks.sort((a, b) => a.at - b.at);
}

/**
 * Which marks are missing, and why.
 * @param {PastOperations | null | undefined} operations @param {number} earlierAlerts @param {Moment} moment
 */
export function marksNote(operations, earlierAlerts, moment) {
  const notes = [];
  if (operations?.state === "stale" && operations.asOf !== null) {
    notes.push(`Operations since ${moment(operations.asOf)} are not known: the audit does not answer.`);
  } else if (operations && !["fresh", "idle"].includes(operations.state)) {
    notes.push("Operations are not known: the audit does not answer.");
  }
  if (earlierAlerts) {
    notes.push(`${counted(earlierAlerts, "earlier alert")} ${earlierAlerts === 1 ? "is" : "are"} not drawn.`);
  }
  return notes.join(" ");
}

/**
 * Groups the marks that would cover each other, with their position. If the chart ends at the present
 * (`isLive`), marks that are newer than `end` are placed at the right edge.
 * @param {Mark[]} marks @param {Pick<Place, "width" | "x" | "end" | "isLive">} place
 */
export function clustersOf(marks, { width, x, end, isLive }) {
  /** @type {{ first: number, at: number, marks: Mark[] }[]} */
  const clusters = [];
  for (const mark of marks) {
    const isNewer = mark.at > end;
    const at = isNewer ? (isLive && x(end) <= width + 1 ? width : NaN) : x(mark.at);
    if (!(at >= 0 && at <= width)) continue;
    const last = clusters.at(-1);
    if (last && at - last.first < MARK_DISTANCE) {
      last.marks.push(mark);
      last.at = (last.first + at) / 2;
    } else clusters.push({ first: at, at, marks: [mark] });
  }
  return clusters;
}

/**
 * The horizontal extents of marks that lasted, cut off at the edges of the chart.
 * @param {Mark[]} marks @param {Pick<Place, "width" | "x" | "end">} place
 */
export function spansOf(marks, { width, x, end }) {
  const inside = (/** @type {number} */ at) => Math.min(width, Math.max(0, x(at)));
  return marks.filter((mark) => mark.until !== undefined)
    .map((mark) => ({ from: inside(mark.at), to: inside(Math.min(mark.until ?? end, end)), mark }))
    .filter(({ from, to }) => to > from);
}

/** @typedef {ReturnType<typeof clustersOf>[number]} Cluster */
/** @typedef {ReturnType<typeof spansOf>[number]} Span */

export class Marks {
  /** @type {Mark[]} oldest first */
  #marks = [];
  /** @type {WeakMap<HTMLElement, Mark[]>} */
  #marksOf = new WeakMap();
  #placed = "";
  /** @type {HTMLElement | null} A mark that moves loses the focus and is given it back; what a reader closed stays closed. */
  #closed = null;

  /**
   * @param {HTMLElement} canvas
   * @param {boolean} isReachable whether operations can be reached by keyboard; on one chart is enough
   */
  constructor(canvas, isReachable) {
    this.isReachable = isReachable;
    this.canvas = canvas;
    this.box = document.createElement("div");
    this.box.className = "qs-marks";
    this.tip = document.createElement("div");
    this.tip.className = "qs-mark-tip";
    this.tip.setAttribute("role", "tooltip");
    this.tip.hidden = true;
    canvas.append(this.box, this.tip);
    this.box.addEventListener("pointerover", (event) => {
      this.#open(closest(event, "button"));
      document.addEventListener("pointermove", this.#follow);
    });
    this.box.addEventListener("pointerout", () => this.#leave());
    this.box.addEventListener("focusin", (event) => {
      if (event.target !== this.#closed) this.#open(closest(event, "button"));
    });
    this.box.addEventListener("focusout", (event) => {
      if (event.relatedTarget) this.#closed = null;
      this.#open(null);
    });
    this.box.addEventListener("click", (event) => this.#open(closest(event, "button")));
    canvas.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      this.#closed = this.#button("button:focus");
      this.#open(null);
    });
  }

  /** @param {Mark[]} marks */
  show(marks) {
    this.#marks = marks;
  }

  /** Draws the marks over the present axes. @param {Place} place */
  place(place) {
    const clusters = clustersOf(this.#marks, place);
    const spans = spansOf(this.#marks, place);
    const { left, top, width, height } = place;
    const key = JSON.stringify([
      left, top, width, height, clusters.map(({ at, marks }) => [Math.round(at), marks.map((mark) => mark.words)]),
      spans.map(({ from, to, mark }) => [Math.round(from), Math.round(to), mark.words]),
    ]);
    if (key === this.#placed) return;
    this.#placed = key;
    Object.assign(this.box.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
    const buttons = () => [...this.box.querySelectorAll("button")];
    const focused = buttons().findIndex((button) => button === document.activeElement);
    const isClosed = this.#closed !== null && buttons()[focused] === this.#closed;
    this.box.replaceChildren(...spans.map(spanElement), ...clusters.map((cluster) => this.#clusterElement(cluster)));
    this.tip.hidden = true;
    const again = buttons()[focused] ?? null;
    this.#closed = isClosed ? again : null;
    again?.focus({ preventScroll: true });
  }

  /** @param {string} selector */
  #button(selector) {
    return /** @type {HTMLElement | null} */ (this.box.querySelector(selector));
  }

  /** @param {Cluster} cluster */
  #clusterElement({ at, marks }) {
    const element = document.createElement("div");
    element.className = "qs-mark";
    element.style.left = `${at}px`;
    element.dataset.kind = marks.some((mark) => mark.kind === "alert") ? "alert" : "operation";
    const button = document.createElement("button");
    button.type = "button";
    button.tabIndex = this.isReachable || element.dataset.kind === "alert" ? 0 : -1;
    if (marks.length > 1) button.dataset.count = String(marks.length);
    button.setAttribute("aria-label", marks.map((mark) => mark.words).join("; ").slice(0, MOST_LABEL_CHARACTERS));
    this.#marksOf.set(button, marks);
    element.append(button);
    return element;
  }

  /**
   * When the charts move into Streamlit's page, no event says that the pointer is no longer on a mark.
   * @param {PointerEvent} event
   */
  #follow = (event) => {
    if (!(event.target instanceof Node && this.box.contains(event.target))) this.#leave();
  };

  #leave() {
    document.removeEventListener("pointermove", this.#follow);
    this.#open(this.#button("button:focus-visible"));
  }

  /** @param {HTMLElement | null} button */
  #open(button) {
    const marks = button && this.#marksOf.get(button);
    this.tip.hidden = !marks;
    if (!marks) return;
    this.#closed = null;
    // The newest matter most.
    const shown = marks.slice(-TIP_WORDS);
    const lines = shown.map((mark) => textElement("p", mark.words));
    const more = marks.length - shown.length;
    if (more) lines.unshift(textElement("p", `${more} earlier`));
    this.tip.replaceChildren(...lines);
    const canvas = this.canvas.getBoundingClientRect();
    const at = button.getBoundingClientRect();
    const left = at.left + at.width / 2 - canvas.left - this.tip.offsetWidth / 2;
    this.tip.style.left = `${Math.max(0, Math.min(left, canvas.width - this.tip.offsetWidth))}px`;
    this.tip.style.top = `${at.bottom - canvas.top + 6}px`;
  }
}

/** @param {Span} span */
function spanElement({ from, to, mark }) {
  const element = document.createElement("div");
  element.className = "qs-span";
  element.dataset.state = mark.state;
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", mark.words);
  element.title = mark.words;
  Object.assign(element.style, { left: `${from}px`, width: `${Math.max(2, to - from)}px` });
  return element;
}
