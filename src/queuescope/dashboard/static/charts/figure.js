// Converts the server's figure (packed values, UTC, colour variables) to Plotly's.
import { wallText } from "../ui/time.js";
import { LEAST_MS } from "./axes.js";
import { withFigure } from "./live_end.js";

/** @import { CardEnd, Curve, Figure, Packed, Panel, View } from "../answers.d.ts" */
/** @typedef {(node: any) => any} Resolve `var(--name)` anywhere in a figure becomes its value */
/** @typedef {Record<string, any> & { x: string[], y: (number | null)[], hovertemplate: string, text?: string[] }} PlotlyTrace */

const PACKED = { f4: Float32Array, f8: Float64Array, u2: Uint16Array, u4: Uint32Array };

/** @param {Packed} packed */
export function unpack({ dtype, bdata }) {
  // A loop, since a function call for each byte would take longer than all the rest.
  const text = atob(bdata);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  return new PACKED[dtype](bytes.buffer);
}

/**
 * The values, rounded to the seven digits that float32 holds; null for what is no number.
 * @param {Packed} packed @returns {(number | null)[]}
 */
export function decodeValues({ dtype, bdata }) {
  const isExact = (/** @type {number} */ value) => dtype === "f8" || Number.isInteger(value);
  return Array.from(unpack({ dtype, bdata }), (value) => {
    if (!Number.isFinite(value)) return null;
    return isExact(value) ? value : Number(value.toPrecision(7));
  });
}

/** @param {Figure} figure @returns {Curve[]} */
export function decodeTraces(figure) {
  return figure.data.map((trace) => {
    const values = decodeValues(trace.y);
    const at = trace.at && unpack(trace.at);
    const times = values.map((_, i) => (trace.x0 + (at ? at[i] : i) * trace.dx) / 1000);
    const live = figure.live && trace.live !== undefined ? {
      ...figure.live, value: trace.live, words: trace.liveWords ?? "", between: trace.liveBetween ?? null,
      soFar: trace.soFar ?? null, soFarWords: trace.soFarWords ?? "", over: trace.liveOver ?? "",
    } : null;
    const texts = Array.from(unpack(trace.words.at), (i) => trace.words.of[i]);
    return { trace, times, values, texts, live };
  });
}

/**
 * Joins the finer points inside the zoomed window with the coarser ones around it.
 * @param {Curve} coarse @param {Curve | undefined} fine @returns {Curve}
 */
export function splice(coarse, fine) {
  if (!fine?.times.length) return coarse;
  const from = fine.times[0];
  const to = fine.times[fine.times.length - 1];
  const before = coarse.times.findIndex((t) => t >= from);
  const after = coarse.times.findIndex((t) => t > to);
  const head = before < 0 ? coarse.times.length : before;
  const tail = after < 0 ? coarse.times.length : after;
  /** @template T @param {T[]} outer @param {T[]} inner */
  const joined = (outer, inner) => [...outer.slice(0, head), ...inner, ...outer.slice(tail)];
  return {
    trace: coarse.trace,
    times: joined(coarse.times, fine.times),
    values: joined(coarse.values, fine.values),
    texts: joined(coarse.texts, fine.texts),
    // The coarse open step is partly complete at the fine step.
    live: fine.live && !(coarse.live && coarse.live.at > fine.live.at) ? fine.live : coarse.live,
  };
}

/**
 * The curves of a chart as they are drawn: those of `panel`, with the finer points of `shown`, and
 * with the ends of the card (`ends`, by name).
 * @param {Panel} panel @param {Panel} shown @param {View} view
 * @param {Record<string, CardEnd> | undefined} ends
 */
export function drawnCurves(panel, shown, view, ends) {
  const coarse = (panel.decoded ??= decodeTraces(panel.figure));
  const fine = shown === panel ? [] : (shown.decoded ??= decodeTraces(shown.figure));
  return coarse.map((one) => {
    const curve = splice(one, fine.find(({ trace }) => trace.uid === one.trace.uid));
    // Without the source, the open step is unknown.
    if (panel.state === "stale") return { ...curve, live: null };
    const end = view.follows && !view.by ? ends?.[curve.trace.name] : undefined;
    return curve.live && end ? { ...curve, live: withFigure(curve.live, end, panel.kind) } : curve;
  });
}

/**
 * A point between two gaps has no line, so it gets a dot.
 * @param {(number | null)[]} values
 */
function isolatedSizes(values) {
  const sizes = values.map((value, i) => {
    const isAlone = value !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null;
    return isAlone ? 5 : 0;
  });
  return sizes.some(Boolean) ? sizes : null;
}

/**
 * The points of a curve, with the open step as the last one.
 * @param {Curve} curve
 */
export function withLive({ times, values, live }) {
  if (!live || live.at <= (times.at(-1) ?? -Infinity)) return { times, values };
  return { times: [...times, live.at], values: [...values, live.value] };
}

/**
 * @param {Curve} curve @param {number} offset @param {Resolve} resolve @param {boolean} [isLog]
 * @returns {PlotlyTrace}
 */
export function plotlyTrace(curve, offset, resolve, isLog = false) {
  const {
    x0, dx, at, y, words, cell, live, liveWords, liveOver, liveBetween, soFar, soFarWords, ...rest
  } = curve.trace;
  const { times, values } = withLive(curve);
  const sizes = isolatedSizes(values);
  return resolve({
    ...rest,
    x: times.map((t) => wallText(t, offset)),
    y: isLog ? values.map((value) => (value === null ? value : Math.max(value, LEAST_MS))) : values,
    customdata: curve.live && values.length > curve.texts.length
      ? [...curve.texts, curve.live.words] : curve.texts,
    ...(sizes ? { mode: "lines+markers", marker: { size: sizes, color: rest.line.color } } : {}),
  });
}

/**
 * `var(--name)` anywhere in a figure, by the theme in force.
 * @param {Element} element @returns {Resolve}
 */
export function tokenResolver(element) {
  const css = getComputedStyle(element);
  return resolver((name) => css.getPropertyValue(name).trim());
}

/** @param {(name: string) => string} valueOf @returns {Resolve} */
export function resolver(valueOf) {
  /** @type {Record<string, string>} */
  const known = {};
  /** @type {Resolve} */
  const resolve = (node) => {
    if (typeof node === "string") {
      return node.startsWith("var(--") ? (known[node] ??= valueOf(node.slice(4, -1))) : node;
    }
    if (Array.isArray(node)) {
      return typeof node[0] === "object" && node[0] !== null ? node.map(resolve) : node;
    }
    if (node && typeof node === "object") {
      return Object.fromEntries(Object.entries(node).map(([k, v]) => [k, resolve(v)]));
    }
    return node;
  };
  return resolve;
}
