// The value axis of durations: ticks that are whole seconds, minutes or hours, told with their unit.

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const DECADES = [0.001, 0.01, 0.1, 1, 10, 100];
const SPANS = [
  ...DECADES.flatMap((size) => [size, 2 * size, 5 * size]),
  ...[1, 2, 5, 10, 15, 30].map((n) => n * SECOND_MS),
  ...[1, 2, 5, 10, 15, 30].map((n) => n * MINUTE_MS),
  ...[1, 2, 3, 6, 12].map((n) => n * HOUR_MS),
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].map((n) => n * DAY_MS),
];
// On a logarithmic axis, from the finest to the coarsest.
const LADDERS = [
  SPANS,
  [...DECADES.flatMap((size) => [size, 3 * size]), ...[1, 3, 10, 30].map((n) => n * SECOND_MS),
    ...[1, 3, 10, 30].map((n) => n * MINUTE_MS), ...[1, 3, 10].map((n) => n * HOUR_MS),
    ...[1, 3, 10, 30, 100, 300, 1000].map((n) => n * DAY_MS)],
  [...DECADES, ...[1, 10].map((n) => n * SECOND_MS), ...[1, 10].map((n) => n * MINUTE_MS),
    ...[1, 10].map((n) => n * HOUR_MS), ...[1, 10, 100, 1000].map((n) => n * DAY_MS)],
];
const MOST_TICKS = 7;
// Where zero is drawn on a logarithmic axis, which has no place for it.
const LEAST_MS = 1;

function tickText(ms) {
  if (ms < SECOND_MS) return ms ? `${Number(ms.toPrecision(3))} ms` : "0";
  return ms < MINUTE_MS ? `${Number((ms / SECOND_MS).toPrecision(3))} s` : durationText(ms / SECOND_MS);
}

// The ticks of an axis from `low` to `high` (milliseconds), as Plotly takes them.
function durationTicks(low, high, isLog) {
  let values;
  if (isLog) {
    const inside = (ladder) => ladder.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
    values = LADDERS.map(inside).find((ticks) => ticks.length <= MOST_TICKS)
      ?? inside(LADDERS.at(-1));
  } else {
    const step = SPANS.find((span) => (high - low) / span <= MOST_TICKS - 1) ?? SPANS.at(-1);
    values = [];
    for (let n = Math.ceil(low / step - 1e-6); n * step <= high * 1.001; n += 1) values.push(n * step);
  }
  return { tickmode: "array", tickvals: values, ticktext: values.map(tickText) };
}

// About what Plotly will make of it: the values, the limits, and what the live ends reach.
function expectedRange(data, more, isLog) {
  let [low, high] = [Infinity, 0];
  for (const value of [...data.flatMap(({ y }) => y), ...more]) {
    if (value === null || !(value > 0)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (!high) return [isLog ? LEAST_MS : 0, SECOND_MS];
  return isLog ? [low / 1.2, high * 1.2] : [0, high * 1.06];
}

// `axis` as Plotly has drawn it: from and to, in milliseconds.
function axisEnds(axis) {
  return axis.range.map((end) => (axis.type === "log" ? 10 ** end : end));
}
