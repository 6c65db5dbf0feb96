// The page's state in its address: the address says what is drawn, always. What a reader typed is
// read on the server alone; here is read what the page itself has written.

const RANGES = ["1h", "6h", "24h", "7d"];
const REFRESH = [0, 10, 30, 60, 300];
const SCALES = ["linear", "log"];
const REFRESH_UNITS = { "": 1, s: 1, m: 60 };

// What the server made of the address that the document was asked for by; null on other pages.
function askedAddress() {
  const element = document.getElementById("queuescope-address");
  element?.remove();
  return element ? JSON.parse(element.textContent) : null;
}

function writtenAddress(defaults, params) {
  const time = (text) => Date.parse(text ?? "") / 1000;
  const pair = (from, to) => (from < to ? [from, to] : null);
  const [from, to] = (params.get("zoom") ?? "").split(",");
  const range = params.get("range") ?? "";
  return {
    range: /^\d+[smhd]$/.test(range) ? range : defaults.range,
    custom: pair(time(params.get("from")), time(params.get("to"))),
    by: defaults.breakdowns.includes(params.get("by")) ? params.get("by") : null,
    step: params.get("step"),
    zoom: pair(time(from), time(to)),
    remarks: [],
  };
}

// `asked` is what the server made of it, if it has.
function readAddress(defaults, asked) {
  const params = new URLSearchParams(location.search);
  const told = asked ?? writtenAddress(defaults, params);
  const remarks = [...told.remarks];
  const quoted = (text) => `'${text.slice(0, 40)}'`;
  let { refresh } = defaults;
  const every = params.get("refresh");
  if (every) {
    const found = every.match(/^(\d{1,6})([sm]?)$/);
    const seconds = every === "off" ? 0 : found ? found[1] * REFRESH_UNITS[found[2]] : NaN;
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
  const state = {
    scale: scale === "log" ? scale : "linear",
    range: told.range ?? defaults.range, custom: told.custom, refresh, zone,
    by: told.by ?? "none", step: told.step === null ? null : String(told.step),
  };
  return { state, zoom: told.zoom, remarks };
}

function isoText(epochSeconds) {
  return new Date(epochSeconds * 1000).toISOString().replace(".000Z", "Z");
}

// The parameters of `params`, with those of the page as they are drawn.
function addressOf(state, zoom, params = new URLSearchParams(location.search)) {
  for (const name of ["range", "from", "to", "step", "zoom", "timezone"]) params.delete(name);
  if (state.custom) {
    params.set("from", isoText(state.custom[0]));
    params.set("to", isoText(state.custom[1]));
  } else params.set("range", state.range);
  if (state.step) params.set("step", state.step);
  if (zoom) params.set("zoom", zoom.map((at) => isoText(Math.round(at))).join(","));
  params.set("refresh", state.refresh ? String(state.refresh) : "off");
  if (state.zone === browserZone()) params.delete("tz");
  else params.set("tz", state.zone);
  if (state.scale === "log") params.set("scale", "log");
  else params.delete("scale");
  if (state.by === "none") params.delete("by");
  else params.set("by", state.by);
  return params;
}

// Whether the address says nothing of a range, as that of a link from another page.
function isBareAddress() {
  const params = new URLSearchParams(location.search);
  return !params.has("range") && !params.has("from") && !params.has("to");
}

// Whether all that the address says is as the page itself would write it.
function isWrittenAs(state, zoom) {
  const now = new URLSearchParams(location.search);
  const drawn = addressOf(state, zoom, new URLSearchParams(now));
  return !isBareAddress() && [...now].every(([name, text]) => drawn.get(name) === text);
}

// With `isStep` the reader finds the way back to what was drawn before.
function writeAddress(state, zoom, isStep = false) {
  // Colons and commas are legal in a query and keep the address readable.
  const query = addressOf(state, zoom).toString()
    .replaceAll("%3A", ":").replaceAll("%2F", "/").replaceAll("%2C", ",");
  const address = `${location.pathname}?${query}${location.hash}`;
  const isNew = address !== `${location.pathname}${location.search}${location.hash}`;
  history[isStep && isNew ? "pushState" : "replaceState"](history.state, "", address);
}

// What the server is asked for.
function viewQuery(state, window) {
  const params = new URLSearchParams();
  const absolute = window || state.custom;
  if (absolute) {
    params.set("from", isoText(Math.floor(absolute[0])));
    params.set("to", isoText(Math.ceil(absolute[1])));
  } else params.set("range", state.range);
  if (state.by !== "none") params.set("by", state.by);
  if (state.step && !window) params.set("step", state.step);
  return params;
}
