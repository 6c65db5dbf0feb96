// The banner below the controls: what is wrong, and what a reader should know about the data.
import { named } from "../ui/elements.js";
import { sentence } from "../ui/text.js";
import { durationText, momentText, offsetSeconds, offsetText } from "../ui/time.js";

/** @import { Store } from "./store.js" */
/** @import { Choices } from "./address.js" */

const CLOCK_TOLERANCE_SECONDS = 5;
const FUTURE_SECONDS = 60;

/** @typedef {Pick<Store, "answer" | "problem" | "failingSince" | "serverNow" | "chartNow" | "deviceAhead" | "dataTimes">} Known */

/**
 * The text of the banner and its tone; null: no banner. `remarks` are those on the address.
 * @param {Known} known @param {Pick<Choices, "custom" | "zone">} choices @param {string[]} remarks
 */
export function bannerOf(known, choices, remarks) {
  const { answer, problem } = known;
  const moment = (/** @type {number} */ at) => momentText(at, choices.zone, known.serverNow);
  const newest = known.dataTimes.length ? Math.max(...known.dataTimes) : null;
  const stale = answer?.panels.filter((panel) => panel.state === "stale") ?? [];
  /** @type {string[]} */
  let words;
  if (problem) {
    const since = known.failingSince && `Disconnected since ${moment(known.failingSince)}.`;
    words = [sentence(problem), since || "", dataWords(newest)];
  } else if (answer && !answer.source.reachable) {
    const { cause = "", lastSeen } = answer.source;
    words = [
      sentence(cause), lastSeen ? `Last answer at ${moment(lastSeen)}.` : "",
      newest === null
        ? "Check that Prometheus runs and that PROMETHEUS_URL names it. The page fills by itself once it answers."
        : dataWords(newest),
    ];
  } else if (stale.length) {
    const oldest = Math.min(...stale.flatMap((panel) => panel.asOf ?? []));
    words = [`${stale.map((panel) => panel.title).join(", ")}: ${sentence(stale[0].cause)}`, dataWords(oldest)];
  } else {
    const notices = answer ? noticesOf(known, choices, remarks).join(" ") : "";
    return notices ? { tone: "note", text: notices } : null;
  }
  return { tone: "bad", text: [...words, ...remarks].filter(Boolean).join(" ") };

  function dataWords(/** @type {number | null} */ at) {
    if (at === null) return "";
    const now = known.chartNow;
    return `The charts show the data of ${momentText(at, choices.zone, now)}, ${durationText(now - at)} old.`;
  }
}

/**
 * What a reader should know even though the data are fine.
 * @param {Known} known @param {Pick<Choices, "custom" | "zone">} choices @param {string[]} remarks
 */
function noticesOf({ answer, chartNow, deviceAhead }, { custom, zone }, remarks) {
  if (!answer) return remarks;
  const notices = [...remarks, answer.source.notice ?? ""];
  if (custom && custom[1] > chartNow + FUTURE_SECONDS) {
    notices.push("The range ends in the future: it is drawn until now, and goes on.");
  }
  // If it agrees with Prometheus, it is the server's clock that is off, which the notice says.
  const apart = Math.min(Math.abs(deviceAhead), Math.abs(deviceAhead - answer.source.offset));
  if (apart > CLOCK_TOLERANCE_SECONDS) {
    notices.push(
      `The clock of this device is ${durationText(Math.abs(deviceAhead))} ${deviceAhead > 0 ? "ahead of" : "behind"}`
      + " the server's. All times here are the server's.",
    );
  }
  const offset = offsetSeconds(zone, answer.view.to);
  if (offsetSeconds(zone, answer.view.from) !== offset) {
    notices.push(`The clocks change within this range; all times are ${offsetText(offset)}.`);
  }
  return notices.filter(Boolean);
}

export class Banner {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.box = named(root, "banner");
    this.text = named(root, "banner-text");
  }

  /** @param {ReturnType<typeof bannerOf>} banner */
  show(banner) {
    this.box.hidden = !banner;
    this.box.dataset.tone = banner?.tone ?? "";
    // A screen reader speaks the text each time it is set.
    const text = banner?.text ?? "";
    if (this.text.textContent !== text) this.text.textContent = text;
  }
}
