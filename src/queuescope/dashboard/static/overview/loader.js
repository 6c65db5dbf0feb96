// Asks the server for what the page shows: when something else is chosen, and with each refresh.
import { Declined, NO_ANSWER, Refused } from "../ui/request.js";
import { viewQuery } from "./address.js";
import { nextWords, RefreshClock, secondsToNext } from "./clock.js";

/** @import { Flow } from "../answers.d.ts" */
/** @import { Refusal } from "../ui/refusal.js" */
/** @import { Choices } from "./address.js" */
/** @import { Store } from "./store.js" */
/**
 * `isQuiet` leaves the screen as it is until the answer is there; `isNow` asks for the newest data;
 * `maxAge` is how old the answer may be, in seconds.
 * @typedef {{ isQuiet: boolean, isNow: boolean, maxAge: number }} How
 */
/**
 * `onAsk` and `onDone` frame a question for the view, `onZoom` says whether one for finer points is
 * under way; `onAnswer` says that the store has something new to show, or a problem; `onScheduled` that
 * it is known when the next question is due.
 * @typedef {{
 *   onAsk: (how: How) => void, onDone: () => void, onAnswer: () => void, onFine: () => void,
 *   onZoom: (isLoading: boolean) => void, onScheduled: () => void, onRefused: (refusal: Refusal) => void,
 * }} LoaderEvents
 */

const USUAL_AGE_SECONDS = 60;

export class Loader {
  isRunning = false;
  /** @type {AbortController | null} */
  #asking = null;
  /** @type {AbortController | null} */
  #askingFine = null;
  #flowsAsked = 0;

  /**
   * @param {Store} store
   * @param {{ choices: Choices, zoom: number[] | null, isHidden: boolean }} page as it is at each moment
   * @param {LoaderEvents} events
   */
  constructor(store, page, events) {
    this.store = store;
    this.page = page;
    this.events = events;
    this.clock = new RefreshClock(() => this.load({ isQuiet: true }));
  }

  /** The query for the view. */
  get key() {
    return viewQuery(this.page.choices, null);
  }

  /** How old an answer may be, in seconds. */
  get maxAge() {
    return this.page.choices.refresh || USUAL_AGE_SECONDS;
  }

  stop() {
    this.isRunning = false;
    this.clock.rest();
  }

  /** The page is looked at again. */
  wake() {
    if (!this.isRunning || this.page.isHidden) return;
    if (this.clock.isDue) this.load({ isQuiet: true });
    else this.schedule();
  }

  /** Shows the view from a young answer of before, or asks for it. */
  loadOrRecall() {
    this.abortFine();
    if (!this.store.recall(this.key, this.maxAge)) {
      this.load();
      return;
    }
    this.#asking?.abort();
    this.#asking = null;
    this.show();
  }

  /** @param {Partial<How>} [how] */
  async load({ isQuiet = false, isNow = false } = {}) {
    this.clock.clear();
    this.#asking?.abort();
    const asking = this.#asking = new AbortController();
    const { key } = this;
    const maxAge = isNow ? 1 : this.maxAge;
    this.events.onAsk({ isQuiet, isNow, maxAge });
    try {
      // The interval lets the server prepare the next answer in time.
      const query = `${key}&refresh=${this.page.choices.refresh || "off"}`;
      const answer = await this.store.ask(query, maxAge, asking.signal);
      if (this.#asking !== asking) return;
      this.store.take(key, answer);
      this.show(isNow);
    } catch (error) {
      if (this.#asking !== asking) return;
      if (error instanceof Refused) this.events.onRefused(error.refusal);
      else {
        const words = error instanceof Declined ? error.message : "";
        this.store.fail(key, words || NO_ANSWER, words !== "");
        this.events.onAnswer();
        this.schedule();
      }
    } finally {
      if (this.#asking === asking) {
        this.#asking = null;
        this.events.onDone();
      }
    }
  }

  /** Shows the store's answer, and asks for finer points where they are wanted. */
  show(isNow = false) {
    this.events.onAnswer();
    this.schedule();
    if (this.page.zoom) this.loadFine(isNow);
  }

  async loadFine(isNow = false) {
    const { zoom } = this.page;
    if (!zoom || !this.store.answer) return;
    // Half a window more on each side, so that a short pan finds points.
    const half = (zoom[1] - zoom[0]) / 2;
    const query = viewQuery(this.page.choices, [zoom[0] - half, zoom[1] + half]);
    this.abortFine();
    const asking = this.#askingFine = new AbortController();
    this.events.onZoom(true);
    try {
      const answer = await this.store.ask(query, isNow ? 1 : this.maxAge, asking.signal);
      if (this.#askingFine !== asking || !this.page.zoom || !this.store.answer) return;
      this.store.fine = answer.view.step < this.store.answer.view.step ? answer : null;
      this.events.onFine();
    } catch (error) {
      if (error instanceof Refused) this.events.onRefused(error.refusal);
      // The coarser points stay until the next refresh.
      else if (!asking.signal.aborted) console.warn("no finer points:", error);
    } finally {
      if (this.#askingFine === asking) {
        this.#askingFine = null;
        this.events.onZoom(false);
      }
    }
  }

  /** Finer points are no longer wanted. */
  abortFine() {
    this.#askingFine?.abort();
  }

  /**
   * Arrivals against completions of what is drawn, from coarse to fine; null if something else is asked
   * for meanwhile.
   * @returns {Promise<(Flow | null)[] | null>}
   */
  async flows() {
    const { answer, fine } = this.store;
    const wanted = this.page.choices.by === "none" ? [answer, fine].filter((one) => one !== null) : [];
    const number = this.#flowsAsked += 1;
    const flows = await this.store.flows(wanted);
    return this.#flowsAsked === number ? flows : null;
  }

  schedule() {
    const { store } = this;
    const seconds = this.isRunning ? secondsToNext({
      refresh: this.page.choices.refresh, age: store.age, isHealthy: store.isHealthy,
      isDisconnected: store.problem !== "",
    }) : null;
    this.clock.set(seconds, this.page.isHidden);
    this.events.onScheduled();
  }

  /** When the page refreshes next, in words. */
  get nextWords() {
    return nextWords({
      isAsking: this.#asking !== null, isOff: !this.page.choices.refresh && !this.store.problem,
      isHidden: this.page.isHidden, left: this.clock.left,
    });
  }
}
