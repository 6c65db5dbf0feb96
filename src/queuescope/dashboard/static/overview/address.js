// The page's state in its address: the address says what is drawn, always. What a reader typed is
// read on the server alone; here is read what the page itself has written.
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
 * What the server made of the address that the document was asked for by; null on other pages.
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
 * The choices in an address, the zoom, and remarks on what in it could not be taken. `asked` is what
 * the server made of it, if it has.
 * @param {Defaults} defaults @param {AskedAddress | null} asked @param {URLSearchParams} [params]
 */
export function readAddress(defaults, asked, params = currentParameters()) {
  const told = asked ?? writtenAddress(defaults, params);
  const remarks = [...told.remarks];
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
  // Grafana has another name for it, and small letters.
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
    range: told.range ?? defaults.range, custom: told.custom, refresh, zone,
    by: told.by ?? "none", step: told.step === null ? null : String(told.step),
  };
  /** @type {number[] | null} */
  const zoom = told.zoom;
  return { choices, zoom, remarks };
}

/** @param {number} epochSeconds */
function isoText(epochSeconds) {
  return new Date(epochSeconds * 1000).toISOString().replace(".000Z", "Z");
}

/**
 * The parameters of `params`, with those of the page as they are drawn.
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

/** Whether the address says nothing of a range, as that of a link from another page. */
export function isBareAddress(params = currentParameters()) {
  return !params.has("range") && !params.has("from") && !params.has("to");
}

/**
 * Whether all that the address says is as the page itself would write it.
 * @param {Choices} choices @param {number[] | null} zoom @param {URLSearchParams} [params]
 */
export function isWrittenAs(choices, zoom, params = currentParameters()) {
  const drawn = addressOf(choices, zoom, params);
  return !isBareAddress(params) && [...params].every(([name, text]) => drawn.get(name) === text);
}

/**
 * With `isStep` the reader finds the way back to what was drawn before.
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
 * What the server is asked for; of `window` (epoch seconds), where only that is wanted.
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
