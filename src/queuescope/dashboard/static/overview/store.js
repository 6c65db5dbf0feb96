// The server's answers: the one that is drawn, and recent ones to come back to.
import { BoundedMap } from "../ui/bounded_map.js";
import { askJson } from "../ui/request.js";
import { isAway } from "../ui/states.js";
import { sentence } from "../ui/text.js";
import { decodeFlow } from "../charts/strip.js";

/** @import { Flow, KeptAnswer, State, ViewAnswer } from "../answers.d.ts" */

const ANSWER_SECONDS = 20;
const MOST_ANSWERS = 12;
const MOST_FLOWS = 16;
const FLOW_KEPT_SECONDS = 300;
// Identifies this page, so that the server can count viewers.
const PAGE = Math.random().toString(36).slice(2, 14);

export class Store {
  /** @type {KeptAnswer | null} what is drawn */
  answer = null;
  /** @type {KeptAnswer | null} the same at a finer step, for a part of its time */
  fine = null;
  /** Why our own server did not answer the last question; empty if it did. */
  problem = "";
  /** @type {number | null} when it was last tried in vain, by the server's clock */
  triedAt = null;
  /** @type {number | null} */
  failingSince = null;
  /** How far this device's clock is ahead of the server's, in seconds. */
  deviceAhead = 0;
  /** The query of `answer`. */
  #key = "";
  /** @type {BoundedMap<string, KeptAnswer>} by what was asked for */
  #answers = new BoundedMap(MOST_ANSWERS);
  /** @type {BoundedMap<string, { state: State, at: number, decoded: Flow | null }>} */
  #flows = new BoundedMap(MOST_FLOWS);

  /** @param {string} base what goes before the addresses of our server */
  constructor(base) {
    this.base = base;
  }

  /** How many answers and flows are kept. */
  get size() {
    return this.#answers.size + this.#flows.size;
  }

  /**
   * The server's answer to `query`, of data that are `maxAge` seconds old at most. Raises `Refused`
   * and `Declined`.
   * @param {string} query @param {number} maxAge @param {AbortSignal} signal
   * @returns {Promise<KeptAnswer>}
   */
  async ask(query, maxAge, signal) {
    const path = `${this.base}/queuescope/view?${query}&age=${maxAge}&page=${PAGE}`;
    const { content, serverNow } = await askJson(path, { seconds: ANSWER_SECONDS, signal });
    // The answer is shared and may have been made a while ago.
    const answer = kept(content, query, serverNow || content.takenAt);
    this.deviceAhead = Date.now() / 1000 - answer.serverNow;
    return answer;
  }

  /**
   * Takes the answer that came with the document. It carries the server's time itself.
   * @param {string} key @param {ViewAnswer & { serverNow: number }} content
   */
  takeInline(key, content) {
    this.take(key, kept(content, key, content.serverNow));
  }

  /** @param {string} key @param {KeptAnswer} answer */
  take(key, answer) {
    this.#answers.set(key, answer);
    this.answer = answer;
    this.#key = key;
    this.problem = "";
    this.failingSince = null;
    this.triedAt = null;
  }

  /**
   * Goes back to the answer to `key`, if it is healthy and at most `maxAge` seconds old.
   * @param {string} key @param {number} maxAge
   */
  recall(key, maxAge) {
    const answer = this.#answers.get(key);
    if (!answer || !isHealthy(answer) || nowOf(answer) - answer.takenAt >= maxAge) return false;
    this.answer = answer;
    this.#key = key;
    return true;
  }

  /**
   * Our own server gave no answer to `key`. What is drawn must not pass for that answer.
   * @param {string} key @param {string} problem
   * @param {boolean} isAnswer the server said so in words
   */
  fail(key, problem, isAnswer) {
    if (isAnswer) this.failingSince = null;
    else if (this.answer) this.failingSince ??= this.serverNow;
    this.problem = problem;
    if (!this.answer) return;
    this.triedAt = this.serverNow;
    const cause = sentence(problem);
    this.answer = (this.#key === key ? this.answer : this.#answers.get(key)) ?? emptied(this.answer, cause);
    this.#key = key;
    for (const panel of this.answer.panels) {
      panel.state = panel.asOf ? "stale" : "unavailable";
      panel.cause = cause;
    }
  }

  /** Drops everything, once the reader may no longer see it. */
  clear() {
    this.answer = this.fine = null;
    this.#answers.clear();
    this.#flows.clear();
  }

  get isHealthy() {
    return !this.problem && this.answer !== null && isHealthy(this.answer);
  }

  /** The server's clock, counted on from its last answer: the reader's may be wrong. */
  get serverNow() {
    return this.answer ? nowOf(this.answer) : Date.now() / 1000;
  }

  /** The clock of the charts, which is Prometheus's. */
  get chartNow() {
    return this.serverNow + (this.answer?.source.offset ?? 0);
  }

  /** The age of what is drawn, in seconds. */
  get age() {
    return this.answer ? Math.max(0, this.serverNow - this.answer.takenAt) : 0;
  }

  /** The as-of times of the panels that have data. */
  get dataTimes() {
    return (this.answer?.panels ?? []).flatMap(({ asOf }) => (asOf ? [asOf] : []));
  }

  /** What was never measured here, while the source answers. */
  get unmeasured() {
    return this.problem ? "" : this.answer?.source.unmeasured ?? "";
  }

  /**
   * Arrivals against completions over the time of each answer; null where they are not known. They
   * are asked for again when a step has passed.
   * @param {KeptAnswer[]} answers
   */
  async flows(answers) {
    const flows = await Promise.all(answers.map((answer) => this.#flow(answer)));
    return flows.map((flow) => flow?.decoded ?? null);
  }

  /** @param {KeptAnswer} answer */
  async #flow({ view, query }) {
    const key = `${view.from} ${view.to} ${view.step}`;
    const known = this.#flows.get(key);
    const isYoung = known && performance.now() - known.at < FLOW_KEPT_SECONDS * 1000;
    if (isYoung && (known.state === "fresh" || known.state === "empty")) return known;
    try {
      const { content } = await askJson(`${this.base}/queuescope/flow?${query}`, { seconds: ANSWER_SECONDS });
      const flow = { state: content.state, at: performance.now(), decoded: decodeFlow(content) };
      this.#flows.set(key, flow);
      return flow;
    } catch {
      // The chart does without it; the next refresh asks again.
      return known;
    }
  }
}

/** @param {ViewAnswer} content @param {string} query @param {number} serverNow @returns {KeptAnswer} */
function kept(content, query, serverNow) {
  return { ...content, query, serverNow, receivedAt: performance.now() };
}

/** The server's clock, counted on from an answer. @param {KeptAnswer} answer */
function nowOf({ serverNow, receivedAt }) {
  return serverNow + (performance.now() - receivedAt) / 1000;
}

/** @param {ViewAnswer} answer */
function isHealthy(answer) {
  return answer.source.reachable && answer.panels.every((panel) => !isAway(panel.state));
}

/**
 * The same panels without data, for a view of which nothing is known.
 * @param {KeptAnswer} answer @param {string} cause @returns {KeptAnswer}
 */
function emptied(answer, cause) {
  const panels = answer.panels.map((panel) => ({
    ...panel, state: /** @type {const} */ ("unavailable"), asOf: null, now: null, cause, warnings: [], hidden: 0,
    dataStart: null, relaidAt: null, atLeast: null, decoded: null,
    details: { series: 0, lookup: "source_error" },
    figure: { ...panel.figure, data: [], point: "" },
  }));
  return { ...answer, panels };
}
