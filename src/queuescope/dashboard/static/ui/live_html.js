// A part of a page that Python describes as HTML, in which all foreign text is escaped already
// (dashboard/ui/widgets.py), with its buttons and boxes to tick.
import { closest } from "./elements.js";
import { patchChildren } from "./patch.js";

/**
 * What is known of a part of a page: its HTML, the boxes that were there before, and how its ticks
 * are told to the server.
 * @typedef {{ html: string, boxes: WeakSet<HTMLInputElement>, tellTicks: () => void }} Sheet
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
 * A job may stand in several tables of a page: it is ticked in all of them, or in none.
 * @param {HTMLInputElement} box
 */
function tickTwins(box) {
  const isTwin = (/** @type {HTMLInputElement} */ other) => other.dataset.value === box.dataset.value;
  const elements = liveElements().filter((element) => boxesOf(element).some(isTwin));
  for (const twin of elements.flatMap(boxesOf).filter(isTwin)) twin.checked = box.checked;
  tellInTurn(elements);
}

/**
 * What is told in one turn goes to the server as news of one part of the page alone.
 * @param {Element[]} elements
 */
function tellInTurn([first, ...others]) {
  sheets.get(first)?.tellTicks();
  if (others.length) setTimeout(() => tellInTurn(others));
}

/**
 * Boxes that have just come onto the page are as their twins that stood there before.
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
  if (changed) setTimeout(sheet.tellTicks);
}

/**
 * The mount of Streamlit's component.
 * @param {{
 *   parentElement: HTMLElement, data: { html: string },
 *   setStateValue: (name: string, value: unknown) => void,
 *   setTriggerValue: (name: string, value: unknown) => void,
 * }} component
 */
export function showLive({ parentElement, data, setStateValue, setTriggerValue }) {
  const element = parentElement.querySelector(".qs-live");
  if (!(element instanceof HTMLElement)) return;
  const tellTicks = () => {
    const ticked = boxesOf(element).filter((box) => box.checked).map((box) => box.dataset.value);
    setStateValue("ticked", [...new Set(ticked)]);
  };
  const sheet = sheets.get(element) ?? { html: "", boxes: new WeakSet(), tellTicks };
  sheet.tellTicks = tellTicks;
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
