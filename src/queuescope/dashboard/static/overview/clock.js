// When the page asks anew.
import { durationText } from "../ui/time.js";

export const RETRY_SECONDS = 10;
// The server renews a view for all who look at it; they must not all ask at once then.
const SPREAD_SECONDS = 0.5;

/**
 * In how many seconds to ask anew; null: not by itself. `refresh` is the interval (0: off), `age` how
 * old what is drawn is; `isAlone` says that our own server did not answer: without it the page is of
 * no use, so it looks for it even with refresh off.
 * @param {{ refresh: number, age: number, isHealthy: boolean, isAlone: boolean }} how
 */
export function secondsToNext({ refresh, age, isHealthy, isAlone }) {
  if (isAlone) return RETRY_SECONDS;
  if (!refresh) return null;
  return isHealthy ? Math.max(1, refresh - age) : Math.min(RETRY_SECONDS, refresh);
}

export class RefreshClock {
  /** @type {number | null} by `performance.now()` */
  #dueAt = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #phase = Math.random() * SPREAD_SECONDS;

  /** @param {() => void} onDue */
  constructor(onDue) {
    this.onDue = onDue;
  }

  /** @param {number | null} seconds null: not by itself @param {boolean} isHidden */
  set(seconds, isHidden) {
    this.clear();
    if (seconds === null) return;
    this.#dueAt = performance.now() + (seconds + this.#phase) * 1000;
    // A hidden tab asks for nothing; it looks at the clock when it is seen again.
    if (!isHidden) this.#timer = setTimeout(this.onDue, (seconds + this.#phase) * 1000);
  }

  clear() {
    this.rest();
    this.#dueAt = null;
  }

  /** Nobody looks; when it is due stays known. */
  rest() {
    clearTimeout(this.#timer);
  }

  get isDue() {
    return this.#dueAt !== null && performance.now() >= this.#dueAt;
  }

  /** In how many seconds; null: not by itself. */
  get left() {
    return this.#dueAt === null ? null : Math.max(0, (this.#dueAt - performance.now()) / 1000);
  }
}

/**
 * When the page asks anew, in words.
 * @param {{ isAsking: boolean, isOff: boolean, isHidden: boolean, left: number | null }} how
 */
export function nextWords({ isAsking, isOff, isHidden, left }) {
  if (isAsking) return "asking now";
  if (isOff) return "refresh is off";
  if (isHidden) return "paused";
  return `next in ${durationText(left ?? 0)}`;
}
