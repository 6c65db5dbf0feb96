// The page's state in its address, so that a link shows what its sender saw.

const RANGES = ["1h", "6h", "24h", "7d"];
const REFRESH = [0, 10, 30, 60, 300];

function readAddress(defaults) {
  const params = new URLSearchParams(location.search);
  const text = params.get("refresh");
  const refresh = text === "off" ? 0 : Number(text);
  const from = Date.parse(params.get("from") ?? "") / 1000;
  const to = Date.parse(params.get("to") ?? "") / 1000;
  const zone = params.get("tz");
  return {
    range: RANGES.includes(params.get("range")) ? params.get("range") : defaults.range,
    custom: Number.isFinite(from) && Number.isFinite(to) && from < to ? [from, to] : null,
    refresh: text && REFRESH.includes(refresh) ? refresh : defaults.refresh,
    zone: zone && isZone(zone) ? zone : browserZone(),
    by: defaults.breakdowns.includes(params.get("by")) ? params.get("by") : "none",
    step: params.get("step"),
  };
}

function isoText(epochSeconds) {
  return new Date(epochSeconds * 1000).toISOString().replace(".000Z", "Z");
}

function writeAddress(state) {
  const params = new URLSearchParams(location.search);
  for (const name of ["range", "from", "to", "step"]) params.delete(name);
  if (state.custom) {
    params.set("from", isoText(state.custom[0]));
    params.set("to", isoText(state.custom[1]));
  } else params.set("range", state.range);
  if (state.step) params.set("step", state.step);
  params.set("refresh", state.refresh ? String(state.refresh) : "off");
  if (state.zone === browserZone()) params.delete("tz");
  else params.set("tz", state.zone);
  if (state.by === "none") params.delete("by");
  else params.set("by", state.by);
  // Colons are legal in a query and keep the address readable.
  const query = params.toString().replaceAll("%3A", ":").replaceAll("%2F", "/");
  history.replaceState(history.state, "", `${location.pathname}?${query}${location.hash}`);
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
