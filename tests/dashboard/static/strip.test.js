import assert from "node:assert/strict";
import test from "node:test";

import { decodeFlow, flowCells, flowWords } from "../../../src/queuescope/dashboard/static/charts/strip.js";
import { packed } from "./answers.js";

const flowOf = (states, given = {}) => decodeFlow({
  state: "fresh", states, from: 600, step: 300, windows: [...states].map(() => 600), windowWords: { 600: "10 min" },
  arrivedPerMinute: packed([...states].map((_, n) => n * 1.25)),
  completedPerMinute: packed([...states].map(() => 0)), ...given,
});

test("without states there is no flow", () => {
  assert.equal(decodeFlow({ state: "empty", states: "" }), null);
});

test("a step has words at its end, and only there", () => {
  const flow = flowOf("gx-");
  assert.equal(flowWords(flow, 600), "growing: 0 arrived, 0 completed a minute in 10 min");
  assert.equal(flowWords(flow, 900.4), "stalled: 1.3 arrived, 0 completed a minute in 10 min");
  for (const nothing of [300, 750, 1200, 1500]) assert.equal(flowWords(flow, nothing), "");
  assert.match(flowWords(flowOf("g", { arrivedPerMinute: packed([NaN]) }), 600), /: \? arrived/);
  assert.match(flowWords(flowOf("g", { arrivedPerMinute: packed([1234.6]) }), 600), /: 1235 arrived/);
});

test("neighbours of one state are one cell, and what is not known is none", () => {
  assert.deepEqual(flowCells([flowOf("ggc-x")]), [["g", 300, 900], ["c", 900, 1200], ["x", 1500, 1800]]);
});

test("where coarse and fine overlap the fine one counts, and no time is covered twice", () => {
  const coarse = flowOf("gggggg");
  const fine = flowOf("ccxx", { from: 1000, step: 60 });
  const cells = flowCells([coarse, fine]);
  assert.deepEqual(cells, [["g", 300, 1000], ["g", 1180, 2100], ["c", 940, 1060], ["x", 1060, 1180]]);
});
