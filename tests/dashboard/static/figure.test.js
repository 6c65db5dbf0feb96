import assert from "node:assert/strict";
import test from "node:test";

import {
  decodeTraces, decodeValues, drawnCurves, plotlyTrace, resolver, splice, withLive,
} from "../../../src/queuescope/dashboard/static/charts/figure.js";
import { epochOf, offsetSeconds } from "../../../src/queuescope/dashboard/static/ui/time.js";
import { answer, NOON, packed, panel, trace } from "./answers.js";

const same = (node) => node;
const LIVE = { live: { at: NOON + 150, from: NOON + 120 } };
const curveOf = (values, given = {}, figure = {}) => decodeTraces({ data: [trace(values, given)], ...figure })[0];

test("values have the digits that float32 holds, and gaps stay gaps", () => {
  assert.deepEqual(decodeValues(packed([0.1, 1 / 3, 12_345_678, NaN, Infinity])), [0.1, 0.3333333, 12_345_678, null, null]);
  assert.deepEqual(decodeValues(packed([0.1, 123_456_789.25], "f8")), [0.1, 123_456_789.25]);
});

test("points stand at their times, those that were left out too", () => {
  assert.deepEqual(curveOf([1, 2, 3]).times, [NOON, NOON + 60, NOON + 120]);
  const thinned = curveOf([1, 2], { at: packed([0, 9], "u4") });
  assert.deepEqual(thinned.times, [NOON, NOON + 540]);
  assert.deepEqual(thinned.texts, ["1", "2"]);
});

test("the open step is the last point of its curve, while it is newer than the others", () => {
  const curve = curveOf([1, 2], { live: 7, liveWords: "7", soFar: 9 }, LIVE);
  assert.deepEqual(curve.live, {
    ...LIVE.live, value: 7, words: "7", between: null, soFar: 9, soFarWords: "", over: "",
  });
  assert.deepEqual(withLive(curve), { times: [NOON, NOON + 60, NOON + 150], values: [1, 2, 7] });
  assert.equal(curveOf([1, 2], { live: 7 }).live, null);
  assert.equal(curveOf([1, 2], {}, LIVE).live, null);
  const whole = { ...curve, times: [...curve.times, NOON + 180], values: [1, 2, 3] };
  assert.deepEqual(withLive(whole).values, [1, 2, 3]);
});

test("finer points take the place of the coarser ones within their window", () => {
  const coarse = curveOf([1, 2, 3, 4], { dx: 60_000 });
  const fine = curveOf([20, 21, 30], { x0: (NOON + 60) * 1000, dx: 30_000 });
  const joined = splice(coarse, fine);
  assert.deepEqual(joined.values, [1, 20, 21, 30, 4]);
  assert.deepEqual(joined.times.map((at) => at - NOON), [0, 60, 90, 120, 180]);
  assert.deepEqual(joined.texts, ["1", "20", "21", "30", "4"]);
  assert.equal(splice(coarse, undefined), coarse);
  assert.equal(splice(coarse, curveOf([])), coarse);
  // A window before all points, or after them.
  assert.deepEqual(splice(coarse, curveOf([9], { x0: (NOON - 600) * 1000 })).values, [9, 1, 2, 3, 4]);
  assert.deepEqual(splice(coarse, curveOf([9], { x0: (NOON + 600) * 1000 })).values, [1, 2, 3, 4, 9]);
});

test("of two open steps the later one counts", () => {
  const early = curveOf([1], { live: 5 }, { live: { at: NOON + 60, from: NOON } });
  const late = curveOf([2], { live: 6 }, { live: { at: NOON + 90, from: NOON + 60 } });
  assert.equal(splice(early, late).live.value, 6);
  assert.equal(splice(late, early).live.value, 6);
});

test("a chart ends with the figure of its card, but not in a breakdown, a past range or an outage", () => {
  const figure = (given) => panel({ figure: { data: [trace([1], { live: 5 })], layout: {}, point: "", ...LIVE }, ...given });
  const ends = { "Queue depth": { value: 8, words: "8", between: null, over: "" } };
  const end = (one, view) => drawnCurves(one, one, answer({ view }).view, ends)[0].live?.value;
  assert.equal(end(figure({}), {}), 8);
  assert.equal(end(figure({}), { by: "queue" }), 5);
  assert.equal(end(figure({}), { follows: false }), 5);
  assert.equal(end(figure({ state: "stale" }), {}), undefined);
  assert.equal(drawnCurves(figure({}), figure({}), answer().view, undefined)[0].live.value, 5);
});

test("any number of curves is drawn, each with the finer points of its own", () => {
  const uids = ["a", "b", "c", "d", "e"];
  const coarse = panel({ figure: { data: uids.map((uid) => trace([1, 2], { uid })), layout: {}, point: "" } });
  const fine = panel({ figure: { data: [trace([9], { uid: "d", x0: (NOON + 60) * 1000 })], layout: {}, point: "" } });
  const curves = drawnCurves(coarse, fine, answer().view, undefined);
  assert.deepEqual(curves.map(({ values }) => values), [[1, 2], [1, 2], [1, 2], [1, 9], [1, 2]]);
});

test("Plotly gets wall times, words and nothing that is the page's own", () => {
  const drawn = plotlyTrace(curveOf([1, 2], { live: 7, liveWords: "seven" }, LIVE), 3600, same);
  assert.deepEqual(drawn.x, ["2026-01-05 13:00:00", "2026-01-05 13:01:00", "2026-01-05 13:02:30"]);
  assert.deepEqual([drawn.y, drawn.customdata], [[1, 2, 7], ["1", "2", "seven"]]);
  assert.deepEqual(Object.keys(drawn).sort(), ["customdata", "hovertemplate", "line", "name", "uid", "x", "y"]);
});

test("a point between two gaps is a dot", () => {
  const alone = plotlyTrace(curveOf([1, 2, NaN, 4, NaN, NaN, 7]), 0, same);
  assert.equal(alone.mode, "lines+markers");
  assert.deepEqual(alone.marker.size, [0, 0, 0, 5, 0, 0, 5]);
  assert.equal(plotlyTrace(curveOf([1, 2, NaN]), 0, same).mode, undefined);
});

test("zero has a place on a logarithmic axis", () => {
  assert.deepEqual(plotlyTrace(curveOf([0, 500, NaN]), 0, same, true).y, [1, 500, null]);
});

test("colours are those of the theme, wherever they stand", () => {
  const resolve = resolver((name) => ({ "--a": "red", "--b": "blue" })[name]);
  const figure = { line: { color: "var(--a)" }, shapes: [{ fill: "var(--b)" }], x: ["var"], y: [1, null], z: null };
  assert.deepEqual(resolve(figure), { line: { color: "red" }, shapes: [{ fill: "blue" }], x: ["var"], y: [1, null], z: null });
});

test("over a change of the clocks every point stands once, as far from the next as ever", () => {
  for (const change of ["2026-03-29T01:00Z", "2026-10-25T01:00Z"].map((text) => Date.parse(text) / 1000)) {
    const offset = offsetSeconds("Europe/Berlin", change + 7200);
    const curve = curveOf([...Array(17).keys()], { x0: (change - 7200) * 1000, dx: 900_000 });
    const times = plotlyTrace(curve, offset, same).x.map((wall) => epochOf(wall, offset));
    assert.deepEqual(times, curve.values.map((n) => change - 7200 + n * 900));
  }
});
