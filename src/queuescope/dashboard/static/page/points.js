// Files of points, in the columns of the server's.

const POINT_COLUMNS = [
  "panel", "unit", "breakdown", "quantile", "series", "from", "to", "zone", "time", "value", "step",
];

const FILE_SECONDS = 60;

const TABLE_ICON = {
  width: 24, height: 24,
  path: "M3 4h18v16H3V4zm2 5v3h6V9H5zm8 0v3h6V9h-6zm-8 5v4h6v-4H5zm8 0v4h6v-4h-6z",
};
const LOAD_ICON = {
  width: 24, height: 24, path: "M5 20h14v-2H5v2zM19 9h-4V3H9v6H5l7 7 7-7z",
};

// What the server escaped for Plotly.
function plainText(name) {
  return name.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}

// ISO 8601 with the offset; milliseconds where there are any.
function pointTime(epochSeconds, offset) {
  const at = Math.round(epochSeconds * 1000);
  const wall = new Date(at + offset * 1000).toISOString().slice(0, at % 1000 ? 23 : 19);
  const minutes = Math.round(Math.abs(offset) / 60);
  const two = (number) => String(number).padStart(2, "0");
  return `${wall}${offset < 0 ? "-" : "+"}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
}

function csvText(rows) {
  const cell = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  return rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

// The rows of a curve as it is drawn: [{ at, isOpen, cells }]. Where a spreadsheet could take a name
// for a formula, the server says in `cell` how it is written instead.
function pointRows(panel, curve, window, { offset, zone }) {
  const name = plainText(curve.trace.cell ?? curve.trace.name);
  const quantile = panel.quantile || (panel.kind === "latency" ? name : "");
  const ends = window.map((at) => pointTime(at, offset));
  const of = [panel.id, panel.unit, panel.by ?? "", quantile, name, ...ends, zone];
  const { times, values } = withLive(curve);
  return times.map((at, i) => {
    const isOpen = i >= curve.times.length;
    return { at, isOpen, cells: [...of, pointTime(at, offset), values[i] ?? "", isOpen ? "open" : "closed"] };
  });
}

// The text of a file of the server's: { text }, { refusal } or, in words, { problem }.
async function fetchFile(path) {
  try {
    const response = await fetch(path, {
      signal: AbortSignal.timeout(FILE_SECONDS * 1000), headers: { accept: "text/csv" },
      // A proxy before us may send who has to log in to another page.
      redirect: "manual",
    });
    const refusal = await refusalOf(response);
    if (refusal) return { refusal };
    const text = await response.text();
    const kind = response.headers.get("content-type") ?? "";
    if (response.ok && kind.startsWith("text/csv")) return { text };
    // The page of a proxy says nothing to a reader of ours.
    if (!response.ok && kind.startsWith("text/plain")) return { problem: text.trim() };
  } catch {
    // As below: what does not arrive is no answer.
  }
  return { problem: "The Queuescope server does not answer." };
}

function saveFile(text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
