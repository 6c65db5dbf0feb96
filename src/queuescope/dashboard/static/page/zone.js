// Time zones. A chart is drawn with one fixed offset, that of its last instant, so that a change
// of the clocks neither doubles nor drops an hour; the axis names the offset.

function offsetSeconds(zone, epochSeconds) {
  if (zone === "UTC") return 0;
  const parts = {};
  for (const { type, value } of zoneFormat(zone).formatToParts(epochSeconds * 1000)) {
    parts[type] = Number(value);
  }
  const wall = Date.UTC(
    parts.year, parts.month - 1, parts.day, parts.hour % 24, parts.minute, parts.second,
  );
  return Math.round(wall / 1000 - Math.floor(epochSeconds));
}

const zoneFormats = new Map();
function zoneFormat(zone) {
  if (!zoneFormats.has(zone)) {
    zoneFormats.set(zone, new Intl.DateTimeFormat("en-GB", {
      timeZone: zone, hourCycle: "h23",
      year: "numeric", month: "numeric", day: "numeric",
      hour: "numeric", minute: "numeric", second: "numeric",
    }));
  }
  return zoneFormats.get(zone);
}

function isZone(name) {
  try {
    zoneFormat(name);
    return true;
  } catch {
    return false;
  }
}

function browserZone() {
  return Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
}

function offsetWords(seconds) {
  if (!seconds) return "UTC";
  const minutes = Math.round(Math.abs(seconds) / 60);
  const rest = minutes % 60 ? `:${String(minutes % 60).padStart(2, "0")}` : "";
  return `UTC${seconds < 0 ? "−" : "+"}${Math.floor(minutes / 60)}${rest}`;
}

// Epoch seconds as the naive text that Plotly shows literally.
function wallText(epochSeconds, offset) {
  return new Date((epochSeconds + offset) * 1000).toISOString().slice(0, 19).replace("T", " ");
}

// And back: what Plotly gives as an axis range, to epoch seconds.
function epochOf(wall, offset) {
  const text = String(wall).replace(" ", "T");
  return Date.parse(`${text.length === 10 ? `${text}T00:00` : text}Z`) / 1000 - offset;
}

function clockText(epochSeconds, zone) {
  return wallText(epochSeconds, offsetSeconds(zone, epochSeconds)).slice(11);
}

// A moment for a reader: the time alone when it is today, else with its date.
function momentText(epochSeconds, zone, nowSeconds) {
  const text = wallText(epochSeconds, offsetSeconds(zone, epochSeconds));
  const today = wallText(nowSeconds, offsetSeconds(zone, nowSeconds));
  return text.slice(0, 10) === today.slice(0, 10) ? text.slice(11) : text;
}

// An age that counts up: the older, the coarser.
function ageText(seconds) {
  const exact = durationText(seconds);
  return exact.replace(/^(\d\d+ \w+) \d.*$/, "$1");
}

function durationText(seconds) {
  const left = Math.max(0, Math.round(seconds));
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  for (let i = 0; i < units.length; i += 1) {
    const [size, name] = units[i];
    if (left >= size) {
      const rest = i + 1 < units.length ? Math.floor((left % size) / units[i + 1][0]) : 0;
      return `${Math.floor(left / size)} ${name}${rest ? ` ${rest} ${units[i + 1][1]}` : ""}`;
    }
  }
  return "0 s";
}

function sentence(text) {
  return /[.!?…]$/.test(text) ? text : `${text}.`;
}
