// Instants and durations as text. A chart is drawn with one fixed offset, that of its last instant,
// so that a change to or from summer time neither doubles nor drops an hour; the axis shows the offset.
import { BoundedMap } from "./bounded_map.js";

/** @type {BoundedMap<string, Intl.DateTimeFormat>} */
const zoneFormats = new BoundedMap(8);

/** @param {string} zone */
function zoneFormat(zone) {
  let format = zoneFormats.get(zone);
  if (!format) {
    format = new Intl.DateTimeFormat("en-GB", {
      timeZone: zone, hourCycle: "h23",
      year: "numeric", month: "numeric", day: "numeric",
      hour: "numeric", minute: "numeric", second: "numeric",
    });
    zoneFormats.set(zone, format);
  }
  return format;
}

/**
 * The offset of a zone from UTC at an instant.
 * @param {string} zone @param {number} epochSeconds
 */
export function offsetSeconds(zone, epochSeconds) {
  if (zone === "UTC") return 0;
  const parts = Object.fromEntries(
    zoneFormat(zone).formatToParts(epochSeconds * 1000).map(({ type, value }) => [type, Number(value)]),
  );
  const wall = Date.UTC(
    parts.year, parts.month - 1, parts.day, parts.hour % 24, parts.minute, parts.second,
  );
  return Math.round(wall / 1000 - Math.floor(epochSeconds));
}

/** @param {string} name */
export function isZone(name) {
  try {
    zoneFormat(name);
    return true;
  } catch {
    return false;
  }
}

export function browserZone() {
  return Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
}

/** @param {number} seconds */
export function offsetText(seconds) {
  if (!seconds) return "UTC";
  const minutes = Math.round(Math.abs(seconds) / 60);
  const rest = minutes % 60 ? `:${String(minutes % 60).padStart(2, "0")}` : "";
  return `UTC${seconds < 0 ? "−" : "+"}${Math.floor(minutes / 60)}${rest}`;
}

/**
 * A local time without its zone, which Plotly shows as it is.
 * @param {number} epochSeconds @param {number} offset
 */
export function wallText(epochSeconds, offset) {
  return new Date((epochSeconds + offset) * 1000).toISOString().slice(0, 19).replace("T", " ");
}

/**
 * The instant of such a text, as in Plotly's axis ranges.
 * @param {string} wall @param {number} offset
 */
export function epochOf(wall, offset) {
  const text = String(wall).replace(" ", "T");
  return Date.parse(`${text.length === 10 ? `${text}T00:00` : text}Z`) / 1000 - offset;
}

/**
 * The instant of a local time in a zone; NaN for what is no time.
 * @param {string} text @param {string} zone
 */
export function instantOf(text, zone) {
  const guess = epochOf(text, 0);
  if (!Number.isFinite(guess)) return NaN;
  // The zone's offset may have changed between the guess and the instant.
  const first = guess - offsetSeconds(zone, guess);
  return guess - offsetSeconds(zone, first);
}

/**
 * A time in the reader's zone, with the date unless it is today.
 * @param {number} epochSeconds @param {string} zone @param {number} nowSeconds
 */
export function momentText(epochSeconds, zone, nowSeconds) {
  const text = wallText(epochSeconds, offsetSeconds(zone, epochSeconds));
  const today = wallText(nowSeconds, offsetSeconds(zone, nowSeconds));
  return text.slice(0, 10) === today.slice(0, 10) ? text.slice(11) : text;
}

/**
 * An age: the older, the coarser.
 * @param {number} seconds
 */
export function ageText(seconds) {
  return durationText(seconds).replace(/^(\d\d+ \w+) \d.*$/, "$1");
}

/** @type {[size: number, name: string][]} */
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

/** @param {number} seconds */
export function durationText(seconds) {
  const left = Math.max(0, Math.round(seconds));
  const i = UNITS.findIndex(([size]) => left >= size);
  if (i < 0) return "0 s";
  const [size, name] = UNITS[i];
  const [nextSize, nextName] = UNITS[i + 1] ?? [Infinity, ""];
  const rest = Math.floor((left % size) / nextSize);
  return `${Math.floor(left / size)} ${name}${rest ? ` ${rest} ${nextName}` : ""}`;
}
