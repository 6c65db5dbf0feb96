// The states of panels and cards, and their texts.
import { sentence } from "./text.js";

/** @import { Panel, State } from "../answers.d.ts" */

/** @type {Record<State, string>} */
export const STATE_WORDS = {
  fresh: "", partial: "partial", stale: "stale", empty: "no data", idle: "idle",
  unavailable: "unavailable",
};

/** @type {Record<State, string>} */
export const STATE_SENTENCES = {
  fresh: "Prometheus answered for just this.",
  partial: "Prometheus answered, and warned that something may be missing.",
  stale: "The last good data: there is no newer answer.",
  empty: "Prometheus answered that there is no such series.",
  idle: "The series exist, but nothing happened that could be measured.",
  unavailable: "No answer, and nothing kept from before.",
};

/** @param {State} state */
export function isAnswered(state) {
  return state === "fresh" || state === "partial";
}

/** @param {State} state */
export function hasCurves(state) {
  return isAnswered(state) || state === "stale";
}

/** The source does not answer. @param {State} state */
export function isAway(state) {
  return state === "stale" || state === "unavailable";
}

/**
 * The message of a chart: with a `title` in place of the curves, without one in a line below them.
 * @param {Pick<Panel, "state" | "cause" | "warnings">} panel
 * @param {boolean} isUnmeasured a notice above the charts already says that nothing is measured here
 */
export function chartMessage({ state, cause, warnings }, isUnmeasured) {
  const remarks = warnings.join(" ");
  switch (state) {
    case "fresh":
      return { title: "", text: remarks && `Prometheus remarks: ${remarks}` };
    case "partial":
    case "stale":
      return { title: "", text: [cause && sentence(cause), remarks].filter(Boolean).join(" ") };
    case "unavailable":
      return {
        title: "No data to show",
        text: `${sentence(cause)} Nothing is cached for this range, so nothing is drawn.`,
      };
    case "idle":
      return { title: "Idle", text: cause };
    default:
      return isUnmeasured
        ? { title: "Not measured yet", text: "" }
        : { title: "No data in this range", text: cause };
  }
}
