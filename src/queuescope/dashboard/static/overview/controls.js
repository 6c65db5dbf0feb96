// The controls: range, breakdown, time zone, refresh.
import { closest, named } from "../ui/elements.js";
import { browserZone, instantOf, offsetSeconds, wallText } from "../ui/time.js";
import { RANGES } from "./address.js";

/** @import { Choices } from "./address.js" */
/**
 * @typedef {{
 *   onView: (part: Partial<Choices>) => void, onRefresh: (seconds: number) => void,
 *   onZone: (zone: string) => void, onNow: () => void, onUnzoom: () => void,
 *   window: () => number[] | null, now: () => number,
 * }} ControlEvents `window` is the time that is shown, `now` the present, in epoch seconds
 */

/** @type {Record<string, number>} */
const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

/**
 * The text of a date field for an instant, in the reader's zone.
 * @param {number} at @param {string} zone
 */
export function fieldText(at, zone) {
  return wallText(at, offsetSeconds(zone, at)).slice(0, 16).replace(" ", "T");
}

/**
 * The range between two date fields, or what is wrong with them.
 * @param {string} fromText @param {string} toText @param {string} zone @param {number} now
 */
export function customRange(fromText, toText, zone, now) {
  const from = instantOf(fromText, zone);
  const to = instantOf(toText, zone);
  if (!Number.isFinite(from) || !Number.isFinite(to)) return { range: null, problem: "Give both times." };
  if (from >= to) return { range: null, problem: "The start must lie before the end." };
  if (from >= now) return { range: null, problem: "The start lies in the future." };
  return { range: [from, to], problem: "" };
}

export class Controls {
  #zone = "UTC";

  /** @param {HTMLElement} root @param {ControlEvents} events */
  constructor(root, events) {
    this.root = root;
    this.events = events;
    this.ranges = named(root, "ranges");
    this.by = named(root, "by", HTMLSelectElement);
    this.zone = named(root, "zone", HTMLSelectElement);
    this.refresh = named(root, "refresh", HTMLSelectElement);
    this.now = named(root, "refresh-now");
    this.form = named(root, "custom");
    this.from = named(root, "custom-from", HTMLInputElement);
    this.to = named(root, "custom-to", HTMLInputElement);
    this.problem = named(root, "custom-error");
    this.zoom = named(root, "zoom");
    this.#listen();
  }

  get #buttons() {
    return [...this.ranges.querySelectorAll("button")];
  }

  /** @param {Choices} choices @param {string} zoom the zoomed window, in words */
  show(choices, zoom) {
    this.#zone = choices.zone;
    const isOther = choices.custom !== null || !RANGES.includes(choices.range);
    for (const button of this.#buttons) {
      const isOn = button.dataset.range === (isOther ? "custom" : choices.range);
      // A range without a button of its own is shown on the last one.
      if (button.dataset.range === "custom") {
        button.textContent = isOther && !choices.custom ? `Custom: ${choices.range}` : "Custom";
      }
      button.setAttribute("aria-checked", String(isOn));
      button.tabIndex = isOn ? 0 : -1;
    }
    this.refresh.value = String(choices.refresh);
    this.by.value = choices.by;
    this.zone.value = choices.zone === "UTC" ? "UTC" : "local";
    this.zoom.hidden = !zoom;
    if (zoom) named(this.root, "zoom-text").textContent = zoom;
  }

  /** Whether a refresh that the reader asked for is under way. @param {boolean} on */
  turning(on) {
    this.now.classList.toggle("qs-turning", on);
  }

  /** Whether finer points are being loaded. @param {boolean} on */
  loadingZoom(on) {
    this.zoom.classList.toggle("qs-loading", on);
  }

  #listen() {
    const { events, ranges } = this;
    ranges.addEventListener("click", (event) => {
      const range = closest(event, "[data-range]")?.dataset.range;
      if (range === "custom") this.#openForm();
      else if (range) {
        this.form.hidden = true;
        events.onView({ range, custom: null, step: null });
      }
    });
    ranges.addEventListener("keydown", (event) => {
      const step = STEPS[event.key];
      if (!step) return;
      event.preventDefault();
      const buttons = this.#buttons;
      const at = buttons.findIndex((button) => button === document.activeElement);
      const next = buttons[(at + step + buttons.length) % buttons.length];
      next.focus();
      next.click();
    });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#applyForm();
    });
    named(this.root, "custom-close").addEventListener("click", () => { this.form.hidden = true; });
    this.refresh.addEventListener("change", () => events.onRefresh(Number(this.refresh.value)));
    this.by.addEventListener("change", () => events.onView({ by: this.by.value }));
    this.zone.addEventListener("change", () => events.onZone(this.zone.value === "UTC" ? "UTC" : browserZone()));
    this.now.addEventListener("click", () => events.onNow());
    named(this.root, "zoom-reset").addEventListener("click", () => events.onUnzoom());
  }

  #openForm() {
    this.form.hidden = false;
    const window = this.events.window();
    if (window) [this.from.value, this.to.value] = window.map((at) => fieldText(at, this.#zone));
    this.problem.textContent = "";
    named(this.root, "custom-zone").textContent = this.#zone;
    this.from.focus();
  }

  #applyForm() {
    const { range, problem } = customRange(this.from.value, this.to.value, this.#zone, this.events.now());
    this.problem.textContent = problem;
    if (!range) return;
    this.form.hidden = true;
    this.events.onView({ custom: range, step: null });
  }
}
