// The page's state in its address, which always says what is drawn. The server parses what a reader
// typed; here is parsed only what the page itself has written.
import { browserZone, isZone } from "../ui/time.js";

/** @import { AskedAddress, Defaults } from "../answers.d.ts" */
/**
 * What the reader has chosen. `custom` is a range in epoch seconds, in place of `range`; `refresh` is
 * in seconds, 0 for never.
 * @typedef {{
 *   range: string, custom: number[] | null, by: string, step: string | null, refresh: number,
 *   zone: string, scale: "linear" | "log",
 * }} Choices
 */

/** The ranges that have a button. */
export const RANGES = ["1h", "6h", "24h", "7d"];
const REFRESH = [0, 10, 30, 60, 300];
const SCALES = ["linear", "log"];
/** @type {Record<string, number>} */
const REFRESH_UNITS = { "": 1, s: 1, m: 60 };

function currentParameters() {
  return new URLSearchParams(location.search);
}

/**
 * How the server parsed the address of the document; null on other pages.
 * @returns {AskedAddress | null}
 */
export function askedAddress() {
  const element = document.getElementById("queuescope-address");
  element?.remove();
  return element ? JSON.parse(element.textContent ?? "") : null;
}

/** @param {Defaults} defaults @param {URLSearchParams} params @returns {AskedAddress} */
function writtenAddress(defaults, params) {
  const time = (/** @type {string | null | undefined} */ text) => Date.parse(text ?? "") / 1000;
  const pair = (/** @type {number} */ from, /** @type {number} */ to) => (
    from < to ? /** @type {[number, number]} */ ([from, to]) : null
  );
  const [from, to] = (params.get("zoom") ?? "").split(",");
  const range = params.get("range") ?? "";
  const by = params.get("by");
  return {
    range: /^\d+[smhd]$/.test(range) ? range : defaults.range,
    custom: pair(time(params.get("from")), time(params.get("to"))),
    by: by !== null && defaults.breakdowns.includes(by) ? by : null,
    step: params.get("step"),
    zoom: pair(time(from), time(to)),
    remarks: [],
  };
}

/**
 * The choices and the zoom in an address, and remarks on what was not accepted. `asked` is how the
 * server parsed it, if it did.
 * @param {Defaults} defaults @param {AskedAddress | null} asked @param {URLSearchParams} [params]
 */
export function readAddress(defaults, asked, params = currentParameters()) {
  const given = asked ?? writtenAddress(defaults, params);
  const remarks = [...given.remarks];
  const quoted = (/** @type {string} */ text) => `'${text.slice(0, 40)}'`;
  let { refresh } = defaults;
  const every = params.get("refresh");
  if (every) {
    const found = every.match(/^(\d{1,6})([sm]?)$/);
    const seconds = every === "off" ? 0 : found ? Number(found[1]) * REFRESH_UNITS[found[2]] : NaN;
    if (REFRESH.includes(seconds)) refresh = seconds;
    else {
      remarks.push(
        `refresh=${quoted(every)}: choose one of off, ${REFRESH.slice(1).join(", ")}.`
        + ` Shown instead: ${refresh ? `${refresh} s` : "off"}.`,
      );
    }
  }
  let zone = browserZone();
  // Grafana calls it `timezone` and writes it in small letters.
  const name = params.get("tz") ?? params.get("timezone") ?? "";
  if (name.toLowerCase() === "utc") zone = "UTC";
  else if (name && name !== "browser") {
    if (isZone(name)) zone = name;
    else {
      remarks.push(
        `tz=${quoted(name)}: give UTC or a zone such as Europe/Berlin. Shown instead: ${zone}.`,
      );
    }
  }
  const scale = params.get("scale") || "linear";
  if (!SCALES.includes(scale)) {
    remarks.push(`scale=${quoted(scale)}: choose one of ${SCALES.join(", ")}. Shown instead: linear.`);
  }
  /** @type {Choices} */
  const choices = {
    scale: scale === "log" ? scale : "linear",
    range: given.range ?? defaults.range, custom: given.custom, refresh, zone,
    by: given.by ?? "none", step: given.step === null ? null : String(given.step),
  };
  /** @type {number[] | null} */
  const zoom = given.zoom;
  return { choices, zoom, remarks };
}

/** @param {number} epochSeconds */
function isoText(epochSeconds) {
  return new Date(epochSeconds * 1000).toISOString().replace(".000Z", "Z");
}

/**
 * `params` with the page's own parameters set to what is drawn.
 * @param {Choices} choices @param {number[] | null} zoom @param {URLSearchParams} params
 */
export function addressOf(choices, zoom, params) {
  const address = new URLSearchParams(params);
  for (const name of ["range", "from", "to", "step", "zoom", "timezone"]) address.delete(name);
  if (choices.custom) {
    address.set("from", isoText(choices.custom[0]));
    address.set("to", isoText(choices.custom[1]));
  } else address.set("range", choices.range);
  if (choices.step) address.set("step", choices.step);
  if (zoom) address.set("zoom", zoom.map((at) => isoText(Math.round(at))).join(","));
  address.set("refresh", choices.refresh ? String(choices.refresh) : "off");
  if (choices.zone === browserZone()) address.delete("tz");
  else address.set("tz", choices.zone);
  if (choices.scale === "log") address.set("scale", "log");
  else address.delete("scale");
  if (choices.by === "none") address.delete("by");
  else address.set("by", choices.by);
  return address;
}

/** Whether the address names no range, like a link from another page. */
export function isBareAddress(params = currentParameters()) {
  return !params.has("range") && !params.has("from") && !params.has("to");
}

/**
 * Whether the page itself would write the address just so.
 * @param {Choices} choices @param {number[] | null} zoom @param {URLSearchParams} [params]
 */
export function isWrittenAs(choices, zoom, params = currentParameters()) {
  const drawn = addressOf(choices, zoom, params);
  return !isBareAddress(params) && [...params].every(([name, text]) => drawn.get(name) === text);
}

/**
 * With `isStep`, the browser's Back button leads to what was drawn before.
 * @param {Choices} choices @param {number[] | null} zoom @param {boolean} [isStep]
 */
export function writeAddress(choices, zoom, isStep = false) {
  // Colons and commas are legal in a query and keep the address readable.
  const query = addressOf(choices, zoom, currentParameters()).toString()
    .replaceAll("%3A", ":").replaceAll("%2F", "/").replaceAll("%2C", ",");
  const address = `${location.pathname}?${query}${location.hash}`;
  const isNew = address !== `${location.pathname}${location.search}${location.hash}`;
  history[isStep && isNew ? "pushState" : "replaceState"](history.state, "", address);
}

/**
 * The query for the server; for `window` (epoch seconds) alone, if given.
 * @param {Choices} choices @param {number[] | null} window
 */
export function viewQuery(choices, window) {
  const params = new URLSearchParams();
  const absolute = window ?? choices.custom;
  if (absolute) {
    params.set("from", isoText(Math.floor(absolute[0])));
    params.set("to", isoText(Math.ceil(absolute[1])));
  } else params.set("range", choices.range);
  if (choices.by !== "none") params.set("by", choices.by);
  if (choices.step && !window) params.set("step", choices.step);
  return params.toString();
}
