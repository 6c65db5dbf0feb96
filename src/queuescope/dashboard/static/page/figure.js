// From the server's figure (packed values, UTC, colour tokens) to what Plotly draws.

const PACKED = { f4: Float32Array, f8: Float64Array, u2: Uint16Array, u4: Uint32Array };

function unpack({ dtype, bdata }) {
  const text = atob(bdata);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  return new PACKED[dtype](bytes.buffer);
}

// Seven digits: what float32 holds, without the noise of its binary fractions.
function decodeValues({ dtype, bdata }) {
  const packed = unpack({ dtype, bdata });
  const values = new Array(packed.length);
  for (let i = 0; i < packed.length; i += 1) {
    const value = packed[i];
    values[i] = Number.isFinite(value)
      ? (dtype === "f8" || Number.isInteger(value) ? value : Number(value.toPrecision(7)))
      : null;
  }
  return values;
}

// Decoded once per answer: [{ trace, times, values, told, live }], times in epoch seconds; `told` are
// the words of each value, which the server made of the full number; `live` is the value now, in the step that is still open, or null: { at, from, value, words }, and where there is
// something to tell of `over` (how long it was measured; empty: it is of one moment), `between` ([low, high], what the value lies between; high null: no end) and
// `soFar` with its words (the value over the open step, where it is worse).
function decodeTraces(figure) {
  return figure.data.map((trace) => {
    const values = decodeValues(trace.y);
    const at = trace.at && unpack(trace.at);
    const times = values.map((_, i) => (trace.x0 + (at ? at[i] : i) * trace.dx) / 1000);
    const live = figure.live && trace.live !== undefined ? {
      ...figure.live, value: trace.live, words: trace.liveWords, between: trace.liveBetween ?? null,
      soFar: trace.soFar ?? null, soFarWords: trace.soFarWords ?? "", over: trace.liveOver ?? "",
    } : null;
    const told = Array.from(unpack(trace.words.at), (i) => trace.words.of[i]);
    return { trace, times, values, told, live };
  });
}

// The finer points inside the zoomed window, the coarser ones around it.
function splice(coarse, fine) {
  if (!fine || !fine.times.length) return coarse;
  const from = fine.times[0];
  const to = fine.times[fine.times.length - 1];
  const before = coarse.times.findIndex((t) => t >= from);
  const head = before < 0 ? coarse.times.length : before;
  let tail = coarse.times.findIndex((t) => t > to);
  if (tail < 0) tail = coarse.times.length;
  const joined = (outer, inner) => [...outer.slice(0, head), ...inner, ...outer.slice(tail)];
  return {
    trace: coarse.trace,
    times: joined(coarse.times, fine.times),
    values: joined(coarse.values, fine.values),
    told: joined(coarse.told, fine.told),
    // What is open at the coarse step is partly over at the fine one.
    live: fine.live && !(coarse.live?.at > fine.live.at) ? fine.live : coarse.live,
  };
}

// A point between two gaps has no line to be seen by: it gets a dot.
function isolatedSizes(values) {
  let found = false;
  const sizes = values.map((value, i) => {
    const alone = value !== null && (values[i - 1] ?? null) === null
      && (values[i + 1] ?? null) === null;
    found ||= alone;
    return alone ? 5 : 0;
  });
  return found ? sizes : null;
}

// The points of a curve with its open step as the last one.
function withLive({ times, values, live }) {
  if (!live || live.at <= times.at(-1)) return { times, values };
  return { times: [...times, live.at], values: [...values, live.value] };
}

function plotlyTrace(curve, offset, resolve) {
  const {
    x0, dx, at, y, words, cell, live, liveWords, liveOver, liveBetween, soFar, soFarWords, ...rest
  } = curve.trace;
  const { times, values } = withLive(curve);
  const sizes = isolatedSizes(values);
  return resolve({
    ...rest,
    x: times.map((t) => wallText(t, offset)),
    y: values,
    customdata: values.length > curve.told.length ? [...curve.told, curve.live.words] : curve.told,
    ...(sizes ? { mode: "lines+markers", marker: { size: sizes, color: rest.line.color } } : {}),
  });
}

// The time before the data begin, so that nothing drawn there is not taken for nothing waiting.
function beforeData(from, start, offset) {
  return {
    type: "rect", xref: "x", yref: "paper", y0: 0, y1: 1, layer: "below",
    x0: wallText(from, offset), x1: wallText(start, offset),
    fillcolor: "var(--qs-raised)", line: { width: 0 },
  };
}

// The value axis for what a zoom shows: Plotly's own would be stretched by what lies outside.
function visibleRange(kind, data, [from, to], isLog = false) {
  let low = Infinity;
  let high = -Infinity;
  for (const { x, y } of data) {
    for (let i = 0; i < x.length; i += 1) {
      if (y[i] !== null && x[i] >= from && x[i] <= to) {
        low = Math.min(low, y[i]);
        high = Math.max(high, y[i]);
      }
    }
  }
  if (low > high) return undefined;
  if (isLog) return [Math.log10(low / 1.2), Math.log10(high * 1.2)];
  if (kind === "percent") return [Math.max(-0.5, low - Math.max(0.5, (100 - low) * 0.06)), 100.5];
  return [0, high > 0 ? high * 1.06 : 1];
}

// Margins that hold the usual labels from the start: one that has to grow while Plotly draws makes
// it draw the whole chart a second time. An unusual label still gets its room that way.
function roomForLabels(data, { showlegend: legend, yaxis }) {
  let high = 0;
  for (const { y } of data) {
    for (const value of y) if (value > high) high = value;
  }
  const texts = yaxis.ticktext ?? [Math.round(high * 1.06).toLocaleString("en-US")];
  const widest = Math.max(3, ...texts.map((text) => text.length));
  return { l: 32 + 7 * widest, b: 64, t: legend ? 47 : 18 };
}

// `var(--name)` anywhere in a figure, by the theme in force.
function tokenResolver(element) {
  const css = getComputedStyle(element);
  const known = new Map();
  const value = (token) => {
    if (!known.has(token)) known.set(token, css.getPropertyValue(token.slice(4, -1)).trim());
    return known.get(token);
  };
  const resolve = (node) => {
    if (typeof node === "string") return node.startsWith("var(--") ? value(node) : node;
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
