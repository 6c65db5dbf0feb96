// The present, above and below the charts: verdict, cards, alerts, sources and failures.
import { askJson, NO_ANSWER, Refused } from "../ui/request.js";
import { Alerts } from "./alerts.js";
import { CardView } from "./card.js";
import { Failures } from "./failures.js";
import { Sources } from "./sources.js";
import { Verdict } from "./verdict.js";

/** @import { OverviewAnswer, Sentence } from "../answers.d.ts" */
/** @import { Refusal } from "../ui/refusal.js" */
/**
 * What the parts of the overview use of the page: `base` goes before addresses, `now` is the time of
 * the charts, `moment` and `words` write instants in the reader's zone, and `reveal` scrolls to the
 * chart of a panel.
 * @typedef {{
 *   base: string, now: () => number, moment: (at: number) => string,
 *   words: (sentence: Sentence, moment?: (at: number) => string) => string, reveal: (panel: string) => void,
 * }} PageContext
 */

const ANSWER_SECONDS = 20;

export class Overview {
  /** @type {OverviewAnswer | null} */
  content = null;
  /** Why our own server did not answer the last question; empty if it did. */
  problem = "";
  /** @type {AbortController | null} */
  #asking = null;

  /**
   * @param {HTMLElement} root @param {PageContext} page
   * @param {{ onShown: () => void, onRefused: (refusal: Refusal) => void }} events
   */
  constructor(root, page, events) {
    this.page = page;
    this.events = events;
    this.cards = [...root.querySelectorAll("[data-kpi]")]
      .map((element) => new CardView(/** @type {HTMLElement} */ (element), page));
    this.hasCards = this.cards.length > 0;
    this.parts = this.hasCards ? [new Verdict(root, page), new Alerts(root, page), new Sources(root, page)] : [];
    const failures = root.querySelector('[data-qs="failures"]');
    this.failures = failures instanceof HTMLElement ? new Failures(failures, page) : null;
    keepOnePopup(root);
  }

  /** @param {number} maxAge how old the answer may be, in seconds */
  async load(maxAge) {
    if (!this.hasCards) return;
    this.#asking?.abort();
    const asking = this.#asking = new AbortController();
    try {
      const path = `${this.page.base}/queuescope/overview?age=${maxAge}`;
      const { content } = await askJson(path, { seconds: ANSWER_SECONDS, signal: asking.signal });
      this.content = content;
      this.problem = "";
    } catch (error) {
      if (error instanceof Refused) {
        this.events.onRefused(error.refusal);
        return;
      }
      if (this.#asking !== asking) return;
      this.problem = NO_ANSWER;
    }
    this.show();
  }

  show() {
    if (!this.content && !this.problem) return;
    for (const part of this.parts) part.show(this.content, this.problem);
    for (const card of this.cards) card.show(this.content?.kpis.find(({ id }) => id === card.id), this.problem);
    this.failures?.show(this.content?.failures, this.problem);
    this.events.onShown();
  }
}

/** At most one popup is open, until a click elsewhere or Escape. @param {HTMLElement} root */
function keepOnePopup(root) {
  const open = () => /** @type {HTMLDetailsElement[]} */ ([...root.querySelectorAll(".qs-pop[open]")]);
  root.addEventListener("click", (event) => {
    for (const one of open()) {
      if (!(event.target instanceof Node && one.contains(event.target))) one.open = false;
    }
  });
  root.addEventListener("keydown", (event) => {
    const first = event.key === "Escape" ? open()[0] : undefined;
    if (!first) return;
    first.open = false;
    first.querySelector("summary")?.focus();
  });
}
