// Saves a chart as a file: its picture, the points that are drawn, or all points that were read. Each
// function returns why it saved nothing, or an empty string.
import { ask, NO_ANSWER, Refused } from "../ui/request.js";
import { epochOf, offsetText, wallText } from "../ui/time.js";
import { viewEnd } from "./live_end.js";
import { csvText, POINT_COLUMNS, pointRows } from "./points.js";

/** @import { Curve, Panel } from "../answers.d.ts" */
/** @import { Context } from "./chart.js" */
/**
 * A chart as it is drawn: `curves` are all of them, `visible` those that the reader has not hidden.
 * @typedef {{
 *   panel: Panel, shown: Panel, context: Context, curves: Curve[], visible: Curve[],
 *   plot: PlotlyElement, axis: PlotlyAxis, width: number, height: number,
 * }} Drawn
 */

const FILE_SECONDS = 60;

export const TABLE_ICON = {
  width: 24, height: 24,
  path: "M3 4h18v16H3V4zm2 5v3h6V9H5zm8 0v3h6V9h-6zm-8 5v4h6v-4H5zm8 0v4h6v-4h-6z",
};
export const LOAD_ICON = {
  width: 24, height: 24, path: "M5 20h14v-2H5v2zM19 9h-4V3H9v6H5l7 7 7-7z",
};

const NOTHING = "nothing is drawn here.";

/**
 * Saves a picture whose title says what it shows, when, and in which time zone.
 * @param {Drawn} drawn
 */
export async function savePicture({ panel, context, plot, axis, width, height }) {
  const [from, to] = axis.range.map((wall) => String(wall).slice(0, 16));
  const by = context.view.by ? `, by ${context.view.by}` : "";
  const title = `${panel.title}${by}: ${from} to ${to} ${offsetText(context.offset)}`;
  const file = ["queuescope", panel.id, from, "to", to, offsetText(context.offset)].join("_");
  const layout = {
    ...plot.layout,
    title: { text: title, font: { size: 14 }, x: 0.02, xanchor: "left" },
    margin: { ...plot.layout.margin, t: plot.layout.margin.t + 36 },
    paper_bgcolor: plot.layout.hoverlabel.bgcolor,
  };
  await Plotly.downloadImage({ data: plot.data, layout }, {
    format: "png", scale: 2, width, height: height + 36,
    filename: file.replace(/[^\w+−-]+/g, "-"),
  });
  return "";
}

/**
 * Saves the points of the visible curves within the time that is shown.
 * @param {Drawn} drawn
 */
export async function saveDrawnPoints({ panel, context, curves, visible, axis }) {
  if (!curves.length) return NOTHING;
  const window = axis.range.map((wall) => epochOf(String(wall), context.offset));
  // The axis ends at a whole second.
  const rows = visible.flatMap((curve) => pointRows(panel, curve, window, context))
    .filter(({ at }) => at >= window[0] && at < window[1] + 1);
  saveText(csvText([POINT_COLUMNS, ...rows.map(({ cells }) => cells)]), fileName(panel, context, "drawn", window));
  return "";
}

/**
 * Saves all points of the answer that is drawn, as the server read them. The open step is taken from
 * the chart, since it may end with the figure of a card. Raises `Refused`.
 * @param {Drawn} drawn
 */
export async function saveReadPoints({ panel, shown, context, curves }) {
  if (!curves.length) return NOTHING;
  const { query: asked, takenAt, view } = context.answer(shown);
  const window = [view.from, shown.figure.live?.at ?? view.to];
  const open = !shown.figure.live ? [] : curves
    .flatMap((curve) => pointRows(panel, curve, window, context))
    .filter(({ isOpen }) => isOpen);
  const query = new URLSearchParams(asked);
  const wanted = { panel: panel.id, tz: context.zone, offset: context.offset, taken: takenAt, steps: "closed" };
  for (const [name, value] of Object.entries(wanted)) query.set(name, String(value));
  const { text, problem } = await fetchFile(`${context.base}/queuescope/chart.csv?${query}`);
  if (text === null) return problem;
  saveText(text + csvText(open.map(({ cells }) => cells)), fileName(panel, context, "read", [view.from, viewEnd(view)]));
  return "";
}

/** @param {Panel} panel @param {Context} context @param {string} what @param {number[]} window */
function fileName(panel, context, what, window) {
  const [from, to] = window.map((at) => wallText(at, context.offset).slice(0, 16));
  const by = panel.by ? [`by_${panel.by}`] : [];
  const parts = ["queuescope", panel.id, ...by, what, from, "to", to, context.zone];
  return `${parts.join("_").replace(/[^\w+−]+/g, "-")}.csv`;
}

/**
 * The text of a file from the server, or why there is none.
 * @param {string} path
 */
async function fetchFile(path) {
  try {
    const response = await ask(path, { accept: "text/csv", seconds: FILE_SECONDS });
    const text = await response.text();
    const kind = response.headers.get("content-type") ?? "";
    if (response.ok && kind.startsWith("text/csv")) return { text, problem: "" };
    // The page of a proxy is no message for our reader.
    if (!response.ok && kind.startsWith("text/plain")) return { text: null, problem: text.trim() };
  } catch (error) {
    if (error instanceof Refused) throw error;
    // As below.
  }
  return { text: null, problem: NO_ANSWER };
}

/** @param {string} text @param {string} name */
function saveText(text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
