// Plotly's layout of a chart: the server's, completed with what depends on the size of the page, the
// reader's zone and the data.
import { offsetText, wallText } from "../ui/time.js";
import { axisEnds, beforeData, durationTicks, expectedRange, visibleRange } from "./axes.js";
import { endExtremes, viewEnd } from "./live_end.js";

/** @import { Curve, Panel } from "../answers.d.ts" */
/** @import { Context } from "./chart.js" */
/** @import { PlotlyTrace, Resolve } from "./figure.js" */

/**
 * The layout of `panel`, whose `data` are its curves as Plotly draws them; `common` is what all
 * charts have in common.
 * @param {{
 *   common: Record<string, any>, panel: Panel, shown: Panel, context: Context, curves: Curve[],
 *   data: PlotlyTrace[], resolve: Resolve, width: number, isLog: boolean, hasLegend: boolean,
 * }} parts
 */
export function chartLayout({ common, panel, shown, context, curves, data, resolve, width, isLog, hasLegend }) {
  const { offset, view, zoom } = context;
  const own = panel.figure.layout;
  const layout = resolve({ ...common, ...own, yaxis: { ...common.yaxis, ...own.yaxis } });
  if (!hasLegend) layout.showlegend = false;
  const { xaxis, yaxis } = layout;
  const [from, to] = zoom ?? [view.from, viewEnd(view)];
  xaxis.range = [wallText(from, offset), wallText(to, offset)];
  xaxis.uirevision = yaxis.uirevision = `axes-${context.axes}`;
  xaxis.nticks = Math.max(3, Math.min(8, Math.round(width / 75)));
  xaxis.title = {
    text: `${context.zone === "UTC" ? "" : `${context.zone}, `}${offsetText(offset)}`,
    standoff: 6, font: { size: 11 },
  };
  xaxis.unifiedhovertitle = {
    text: `%{x|%a %d %b %H:%M:%S} ${offsetText(offset)}<br>${shown.figure.point}`,
  };
  if (panel.dataStart && panel.dataStart > from && panel.state !== "stale") {
    layout.shapes = [...(layout.shapes ?? []), resolve(beforeData(from, panel.dataStart, offset))];
  }
  const extremes = endExtremes(curves.map((curve) => curve.live));
  if (extremes.length) {
    const given = yaxis.autorangeoptions;
    const include = [...(given?.include ?? []), ...extremes].filter((value) => !isLog || value > 0);
    yaxis.autorangeoptions = { ...given, include };
  }
  if (isLog) yaxis.type = "log";
  const visible = zoom && visibleRange(panel.kind, data, xaxis.range, isLog);
  if (visible) yaxis.range = visible;
  if (panel.kind === "latency") {
    const limits = (own.shapes ?? []).map((/** @type {{ y0: number }} */ shape) => shape.y0);
    const [low, high] = visible ? axisEnds(yaxis) : expectedRange(data, [...limits, ...extremes], isLog);
    Object.assign(yaxis, durationTicks(low, high, isLog));
  }
  return layout;
}
