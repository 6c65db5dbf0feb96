// The details of a chart for an engineer, and the notes below it for all readers.
import { STATE_SENTENCES, STATE_WORDS } from "../ui/states.js";
import { plainText, sentence } from "../ui/text.js";
import { durationText, momentText } from "../ui/time.js";

/** @import { Panel } from "../answers.d.ts" */
/** @import { Context } from "./chart.js" */

/** @type {Record<string, string>} */
const LOOKUPS = {
  hit: "all of it was kept from before",
  partial_hit: "the newest points asked for, the rest kept from before",
  range_miss: "read again for the whole range",
  key_miss: "read for the first time",
  source_error: "nothing new: the source failed",
};

// The server's notation for characters that cannot be seen.
const NUMBERED = /\\(u[0-9a-f]{4}|U[0-9a-f]{8})/;

/**
 * The notes below a chart, which a reader needs to understand it.
 * @param {Panel} panel @param {Panel} shown @param {Pick<Context, "zone" | "now">} context
 */
export function chartNotes(panel, shown, context) {
  const moment = (/** @type {number} */ at) => momentText(at, context.zone, context.now()).slice(0, -3);
  const notes = [];
  if (panel.dataStart) {
    notes.push(`The data start at ${moment(panel.dataStart)}; nothing is known before.`);
  }
  if (shown.relaidAt) {
    notes.push(`The buckets change at ${moment(shown.relaidAt)}; no quantile is known there.`);
  }
  if (shown.atLeast) {
    notes.push(`Reaches the top bucket: the true value may be above ${shown.atLeast}.`);
  }
  return notes.join(" ");
}

/**
 * The rows of the details: [name, text].
 * @param {Panel} panel @param {Panel} shown @param {Context} context
 */
export function chartDetails(panel, shown, context) {
  const page = context.page();
  const moment = (/** @type {number} */ at) => momentText(at, context.zone, context.now());
  const rows = [["State", `${STATE_WORDS[panel.state] || "fresh"}. ${STATE_SENTENCES[panel.state]}`]];
  if (panel.cause && panel.state !== "fresh") rows.push(["Cause", sentence(panel.cause)]);
  const kind = page.problem ? "dashboard_away" : panel.details.kind;
  if (kind) rows.push(["Kind", kind]);
  for (const text of panel.warnings) rows.push(["Remark", text]);
  rows.push(["Data as of", panel.asOf
    ? `${moment(panel.asOf)}, ${durationText(context.now() - panel.asOf)} ago` : "none"]);
  if (page.lastSeen) rows.push(["Last answer", moment(page.lastSeen)]);
  rows.push(["Next try", page.next]);
  if (shown.details.query) rows.push(["Step", context.answer(shown).view.stepWords]);
  const hiding = shown.figure.data.map(({ name }) => plainText(name)).filter((name) => NUMBERED.test(name));
  if (hiding.length) {
    rows.push(["Names", `${hiding.join(", ")}: \\u and a number stand for a character that cannot be seen, or would turn the text around it.`]);
  }
  rows.push(["Series", String(panel.details.series)]);
  if (panel.details.scrapes) rows.push(["Scraped", panel.details.scrapes]);
  rows.push(["Cache", LOOKUPS[panel.details.lookup] ?? panel.details.lookup]);
  if (page.version) rows.push(["Source", `version ${page.version}`]);
  if (shown.details.query) rows.push(["Query", shown.details.query]);
  return rows;
}

/** The panel of details that opens over the chart. */
export class Details {
  /** @param {HTMLElement} box @param {HTMLElement} button what opens and closes it */
  constructor(box, button) {
    this.box = box;
    this.button = button;
    this.list = /** @type {HTMLElement} */ (box.querySelector("dl"));
    this.rows = "";
  }

  get isOpen() {
    return !this.box.hidden;
  }

  /** @param {boolean} open */
  open(open) {
    this.box.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
  }

  /** @param {string[][]} rows */
  show(rows) {
    const key = JSON.stringify(rows);
    if (this.rows === key) return;
    this.rows = key;
    this.list.replaceChildren(...rows.flatMap(([name, text]) => {
      const term = document.createElement("dt");
      const value = document.createElement("dd");
      term.textContent = name;
      value.textContent = text;
      if (name === "Query" || name === "Kind") value.className = "qs-code";
      return [term, value];
    }));
  }
}
