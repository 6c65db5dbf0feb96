// Shows a part of a page that Python sends as HTML, with foreign text escaped already
// (dashboard/ui/widgets.py), and reports its buttons and checkboxes.
import { closest } from "./elements.js";
import { patchChildren } from "./patch.js";

/**
 * One part of a page: its HTML, the checkboxes that it had before, and how it reports them.
 * @typedef {{ html: string, boxes: WeakSet<HTMLInputElement>, reportTicks: () => void }} Sheet
 */

/** @type {WeakMap<Element, Sheet>} */
const sheets = new WeakMap();

/** @param {Element} element */
function boxesOf(element) {
  return /** @type {HTMLInputElement[]} */ ([...element.querySelectorAll(".qs-tick")]);
}

function liveElements() {
  return [...document.querySelectorAll(".qs-live")];
}

/**
 * A job that is in several tables of a page is checked in all of them, or in none.
 * @param {HTMLInputElement} box
 */
function tickTwins(box) {
  const isTwin = (/** @type {HTMLInputElement} */ other) => other.dataset.value === box.dataset.value;
  const elements = liveElements().filter((element) => boxesOf(element).some(isTwin));
  for (const twin of elements.flatMap(boxesOf).filter(isTwin)) twin.checked = box.checked;
  reportInTurn(elements);
}

/**
 * One part in each turn: Streamlit takes what is reported in one turn for one part alone.
 * @param {Element[]} elements
 */
function reportInTurn([first, ...others]) {
  sheets.get(first)?.reportTicks();
  if (others.length) setTimeout(() => reportInTurn(others));
}

/**
 * New checkboxes are checked as those of the same job that were on the page before.
 * @param {Element} element @param {Sheet} sheet
 */
function followTwins(element, sheet) {
  const fresh = boxesOf(element).filter((box) => !sheet.boxes.has(box));
  if (!fresh.length) return;
  const before = new Map(liveElements()
    .flatMap((other) => boxesOf(other).filter((box) => sheets.get(other)?.boxes.has(box)))
    .map((box) => [box.dataset.value, box.checked]));
  let changed = false;
  for (const box of fresh) {
    sheet.boxes.add(box);
    const wanted = before.get(box.dataset.value) ?? box.checked;
    changed ||= box.checked !== wanted;
    box.checked = wanted;
  }
  if (changed) setTimeout(sheet.reportTicks);
}

/**
 * Mounts Streamlit's component.
 * @param {{
 *   parentElement: HTMLElement, data: { html: string },
 *   setStateValue: (name: string, value: unknown) => void,
 *   setTriggerValue: (name: string, value: unknown) => void,
 * }} component
 */
export function showLive({ parentElement, data, setStateValue, setTriggerValue }) {
  const element = parentElement.querySelector(".qs-live");
  if (!(element instanceof HTMLElement)) return;
  const reportTicks = () => {
    const ticked = boxesOf(element).filter((box) => box.checked).map((box) => box.dataset.value);
    setStateValue("ticked", [...new Set(ticked)]);
  };
  const sheet = sheets.get(element) ?? { html: "", boxes: new WeakSet(), reportTicks };
  sheet.reportTicks = reportTicks;
  sheets.set(element, sheet);
  if (sheet.html !== data.html) {
    const wanted = document.createElement("template");
    wanted.innerHTML = data.html;
    patchChildren(element, wanted.content);
    sheet.html = data.html;
    followTwins(element, sheet);
  }
  element.onclick = (event) => {
    const button = closest(event, "button[data-of]");
    if (button instanceof HTMLButtonElement && !button.disabled) {
      setTriggerValue("chosen", [button.dataset.of, button.dataset.value]);
    }
  };
  element.onchange = (event) => {
    const box = closest(event, ".qs-tick");
    if (box instanceof HTMLInputElement) tickTwins(box);
  };
}
