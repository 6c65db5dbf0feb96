// When the page refreshes.
import { durationText } from "../ui/time.js";

const RETRY_SECONDS = 10;
// The server renews a view for all its viewers; they must not all ask at once then.
const SPREAD_SECONDS = 0.5;

/**
 * Seconds until the next refresh; null: none. `refresh` is the interval (0: off) and `age` the age of
 * what is drawn. If our own server did not answer (`isDisconnected`), the page tries again even with
 * refresh off.
 * @param {{ refresh: number, age: number, isHealthy: boolean, isDisconnected: boolean }} how
 */
export function secondsToNext({ refresh, age, isHealthy, isDisconnected }) {
  if (isDisconnected) return RETRY_SECONDS;
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

  /** @param {number | null} seconds null: never @param {boolean} isHidden */
  set(seconds, isHidden) {
    this.clear();
    if (seconds === null) return;
    this.#dueAt = performance.now() + (seconds + this.#phase) * 1000;
    // A hidden tab does not refresh; it checks the clock when it is shown again.
    if (!isHidden) this.#timer = setTimeout(this.onDue, (seconds + this.#phase) * 1000);
  }

  clear() {
    this.rest();
    this.#dueAt = null;
  }

  /** Stops the timer while the tab is hidden; the due time stays known. */
  rest() {
    clearTimeout(this.#timer);
  }

  get isDue() {
    return this.#dueAt !== null && performance.now() >= this.#dueAt;
  }

  /** Seconds until the next refresh; null: none. */
  get left() {
    return this.#dueAt === null ? null : Math.max(0, (this.#dueAt - performance.now()) / 1000);
  }
}

/**
 * When the page refreshes next, in words.
 * @param {{ isAsking: boolean, isOff: boolean, isHidden: boolean, left: number | null }} how
 */
export function nextWords({ isAsking, isOff, isHidden, left }) {
  if (isAsking) return "asking now";
  if (isOff) return "refresh is off";
  if (isHidden) return "paused";
  return `next in ${durationText(left ?? 0)}`;
}
