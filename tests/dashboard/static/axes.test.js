import assert from "node:assert/strict";
import test from "node:test";

import {
  axisEnds, durationTicks, expectedRange, roomForLabels, tickText, visibleRange,
} from "../../../src/queuescope/dashboard/static/charts/axes.js";
import {
  endExtremes, liveEndWords, withFigure,
} from "../../../src/queuescope/dashboard/static/charts/live_end.js";

const SPAN = /^(0|[0-9.]+ ms|[0-9.]+ s|[0-9]+ (min|h|d)( [0-9]+ (s|min|h))?)$/;

test("ticks of durations are few, in one form and within the axis, from microseconds to years", () => {
  for (let high = 0.01; high < 1e11; high *= 3) {
    for (const isLog of [false, true]) {
      const low = isLog ? high / 1000 : 0;
      const { tickvals, ticktext } = durationTicks(low, high, isLog);
      assert.ok(tickvals.length >= 2 && tickvals.length <= 8, `${high} ${isLog} ${ticktext}`);
      assert.ok(tickvals.every((tick) => tick >= low * 0.99 && tick <= high * 1.01));
      assert.ok(ticktext.every((text) => SPAN.test(text)), ticktext.join());
      assert.equal(new Set(ticktext).size, ticktext.length);
    }
  }
  assert.deepEqual(durationTicks(0, 90_000, false).ticktext, ["0", "15 s", "30 s", "45 s", "1 min", "1 min 15 s", "1 min 30 s"]);
  assert.deepEqual([0, 0.5, 1500, 90_000].map(tickText), ["0", "0.5 ms", "1.5 s", "1 min 30 s"]);
});

test("an axis is expected to hold the curves, the limits and the ends", () => {
  const [low, high] = expectedRange([{ y: [10, null, 100] }, { y: [50] }], [200], false);
  assert.equal(low, 0);
  assert.ok(high >= 200 && high < 220);
  assert.deepEqual(expectedRange([{ y: [null, 0] }], [], false), [0, 1000]);
  assert.deepEqual(expectedRange([], [], true), [1, 1000]);
});

test("a zoom fits the values that it shows", () => {
  const data = [{ x: ["a", "b", "c"], y: [1000, 20, null] }];
  assert.deepEqual(visibleRange("count", data, ["b", "c"]).map(Math.round), [0, 21]);
  assert.equal(visibleRange("count", data, ["c", "d"]), null);
  assert.deepEqual(visibleRange("percent", [{ x: ["b"], y: [90] }], ["a", "c"]), [89.4, 100.5]);
  assert.deepEqual(axisEnds({ type: "log", range: visibleRange("latency", data, ["b", "c"], true) }).map(Math.round), [17, 24]);
});

test("the labels have room before they are drawn", () => {
  const wide = roomForLabels([{ y: [5, 1_000_000, null] }], { showlegend: false, yaxis: {} });
  const narrow = roomForLabels([{ y: [5] }], { showlegend: true, yaxis: {} });
  assert.ok(wide.l > narrow.l);
  assert.ok(narrow.t > wide.t);
  assert.ok(roomForLabels([], { yaxis: { ticktext: ["100 min 20 s"] } }).l > narrow.l);
});

test("an end with another figure of now keeps the worst of its step where that is worse still", () => {
  const live = { at: 10, from: 0, value: 5, words: "5", over: "", between: null, soFar: 9, soFarWords: "9" };
  const end = (value, between = null) => ({ value, words: "", between, over: "" });
  assert.equal(withFigure(live, end(7), "count").soFar, 9);
  assert.equal(withFigure(live, end(9), "count").soFar, null);
  assert.equal(withFigure(live, end(5, [4, 10]), "latency").soFar, null);
  assert.equal(withFigure(live, end(5, [4, null]), "latency").soFar, null);
  assert.equal(withFigure(live, end(10), "percent").soFar, 9);
  assert.equal(withFigure(live, end(8), "percent").soFar, null);
  assert.deepEqual(endExtremes([live, null, { ...live, soFar: null, between: [1, null] }]), [9, 1]);
  assert.equal(liveEndWords(live, "count"), ", now<br>highest of the last 10 s: 9");
  assert.equal(liveEndWords({ ...live, soFarWords: "", over: "5 min" }, "count"), ", the last 5 min");
});
