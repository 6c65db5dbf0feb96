// A card: one present figure, how it changed, and links to more about it.
import { linkElement, part, textElement } from "../ui/elements.js";
import { isAnswered, STATE_WORDS } from "../ui/states.js";
import { capital, sentence } from "../ui/text.js";
import { ageText } from "../ui/time.js";
import { floatsOf, sparklinePaths } from "./sparkline.js";

/** @import { Card, Change, State } from "../answers.d.ts" */
/** @import { PageContext } from "./overview.js" */

const DIRECTION_SIGNS = { up: "▲", down: "▼", same: "", none: "" };
// A longer figure is set smaller, to leave room for the badge.
const LONG_FIGURE = 7;

/**
 * The text of a card's badge. That a figure is beyond its limit goes before where it is from.
 * @param {State} state @param {Card | undefined} card
 */
export function badgeWords(state, card) {
  const level = card && isAnswered(state) && card.level !== "none" ? card.levelWords : "";
  const instead = state === "partial" && card?.instead ? level || card.instead : "";
  return instead || STATE_WORDS[state] || level;
}

export class CardView {
  /** @param {HTMLElement} element @param {PageContext} page */
  constructor(element, page) {
    this.element = element;
    this.page = page;
    this.id = element.dataset.kpi ?? "";
    this.about = part(element, ".qs-from", HTMLDetailsElement);
    this.about.addEventListener("click", () => this.#placeAbout());
  }

  /** @param {string} selector */
  #part(selector) {
    return part(this.element, selector);
  }

  /** @param {Card | undefined} card @param {string} problem why our own server does not answer */
  show(card, problem) {
    const { element } = this;
    /** @type {State} */
    const state = problem || !card ? (card ? "stale" : "unavailable") : card.state;
    element.removeAttribute("aria-busy");
    element.dataset.state = state;
    element.dataset.level = card && isAnswered(state) ? card.level : "none";
    if (card?.asOf) element.dataset.asOf = new Date(card.asOf * 1000).toISOString();
    const figure = this.#part(".qs-figure strong");
    figure.textContent = card ? card.words : "–";
    figure.toggleAttribute("data-long", figure.textContent.length > LONG_FIGURE);
    this.#part(".qs-figure span").textContent = card && card.words !== "–" ? card.unit : "";
    const badge = this.#part(".qs-badge");
    badge.textContent = badgeWords(state, card);
    badge.hidden = !badge.textContent;
    const cause = problem || card?.cause || "";
    element.title = cause && sentence(capital(cause));
    if (card) {
      const isLive = card.origin !== "prometheus" && state === "fresh";
      const note = this.#part(".qs-note");
      element.dataset.origin = card.origin;
      note.textContent = card.note || (isLive ? "live" : "");
      note.toggleAttribute("data-live", isLive && !card.note);
      note.toggleAttribute("data-late", Boolean(card.late));
    }
    this.#showAbout(card, problem);
    this.#showChanges(card, state, cause);
    this.#showSparkline(card);
  }

  /**
   * The source and time of the figure, and links to more about it.
   * @param {Card | undefined} card @param {string} problem
   */
  #showAbout(card, problem) {
    const list = this.#part(".qs-from ul");
    const said = problem ? [problem] : (card?.details ?? []).map((one) => this.page.words(one));
    // Buttons and links stay the same elements, since one may have the focus.
    const ways = list.querySelector("li.qs-ways") ?? this.#ways(card);
    while (list.firstElementChild && list.firstElementChild !== ways) list.firstElementChild.remove();
    list.prepend(...said.map((text) => textElement("li", text)));
    if (ways && !ways.isConnected) list.append(ways);
  }

  /** @param {Card | undefined} card */
  #ways(card) {
    const ways = document.createElement("li");
    ways.className = "qs-ways";
    if (card?.panel) {
      ways.append(chartButton(() => {
        this.about.open = false;
        this.page.reveal(card.panel);
      }));
    }
    for (const { path, title } of card?.pages ?? []) {
      ways.append(linkElement(`${this.page.base}/${path}`, title));
    }
    return ways.childElementCount ? ways : null;
  }

  // The popup of the last card in a row opens to the left, so that it stays on the page.
  #placeAbout() {
    const row = this.element.parentElement;
    const isLast = row !== null && row.getBoundingClientRect().right - this.element.getBoundingClientRect().right < 1;
    this.about.toggleAttribute("data-last", isLast);
  }

  /** @param {Card | undefined} card @param {State} state @param {string} cause */
  #showChanges(card, state, cause) {
    const line = this.#part(".qs-changes");
    const why = textElement("span", cause && sentence(capital(cause)), "qs-why");
    const beside = card?.beside && state !== "stale" ? [textElement("span", card.beside, "qs-beside")] : [];
    if (!card || ["empty", "idle", "unavailable"].includes(state)) {
      line.replaceChildren(...beside, why);
      return;
    }
    const first = this.#firstWords(card, state);
    line.replaceChildren(...(first ? [first] : beside), ...card.changes.map(changeElement));
    if (!card.changes.length && cause) line.append(why);
  }

  /** The first line: how old the figure is, or how the queue moves. @param {Card} card @param {State} state */
  #firstWords(card, state) {
    if (state === "stale" && card.asOf) {
      const age = ageText(this.page.now() - card.asOf);
      return textElement("span", `${age} old, of ${this.page.moment(card.asOf)}`, "qs-old");
    }
    if (!card.drain?.brief || !isAnswered(state)) return null;
    const drain = textElement("span", card.drain.brief, "qs-drain");
    drain.dataset.drain = card.drain.state;
    drain.title = card.drain.words;
    return drain;
  }

  /** @param {Card | undefined} card */
  #showSparkline(card) {
    const spark = /** @type {SVGElement} */ (this.element.querySelector(".qs-spark"));
    spark.dataset.state = card?.spark?.state ?? "";
    const { line, area } = sparklinePaths(card?.spark ? floatsOf(card.spark.values) : []);
    spark.querySelector(".qs-spark-line")?.setAttribute("d", line);
    spark.querySelector(".qs-spark-area")?.setAttribute("d", area);
  }
}

/** @param {Change} change */
function changeElement({ direction, words, tone, against }) {
  const item = document.createElement("span");
  const figure = textElement("b", [DIRECTION_SIGNS[direction], words].filter(Boolean).join(" "));
  figure.dataset.tone = tone;
  const relation = { none: "of", same: "as", up: "on", down: "on" }[direction];
  item.append(figure, ` ${relation} ${against}`);
  return item;
}

/** @param {() => void} onClick */
export function chartButton(onClick) {
  const button = textElement("button", "Show its chart", "qs-button qs-plain");
  button.type = "button";
  button.addEventListener("click", onClick);
  return button;
}
