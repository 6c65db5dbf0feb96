import assert from "node:assert/strict";
import test from "node:test";

import {
  allAlerts, chartMarks, clustersOf, marksNote, spansOf,
} from "../../../src/queuescope/dashboard/static/charts/marks.js";

const moment = (at) => `T${at}`;
const operation = (at, given = {}) => ({ at, actor: "ann", words: "paused queue a", result: "done", detail: "", ...given });
const alert = (given = {}) => ({
  name: "Backlog", state: "firing", severity: "warning", summary: "Too many wait", since: 100, panel: "depth", labels: {},
  ...given,
});
const words = (alerts) => chartMarks("depth", [], alerts, moment).map((mark) => mark.words);
// A second is a pixel.
const PLACE = { width: 1000, x: (at) => at, end: 1000, isLive: true };

test("an operation shows who did what, and how it ended", () => {
  const marks = chartMarks("any", [
    operation(1), operation(2, { result: "failed", detail: "no such queue" }), operation(3, { result: "pending" }),
    operation(4, { result: "unknown", detail: "It broke off." }), operation(5, { result: "new" }),
  ], [], moment).map((mark) => mark.words);
  assert.deepEqual(marks, [
    "T1  ann: paused queue a, done.",
    "T2  ann: paused queue a, failed. no such queue.",
    "T3  ann: paused queue a, not finished yet.",
    "T4  ann: paused queue a, not known whether it happened. It broke off.",
    "T5  ann: paused queue a, new.",
  ]);
});

test("operations are on every chart, an alert on that of its panel, in order of time", () => {
  const alerts = [alert({ since: 5 }), alert({ panel: "success", since: 1 })];
  const kinds = (panel) => chartMarks(panel, [operation(9), operation(3)], alerts, moment).map(({ at, kind }) => [at, kind]);
  assert.deepEqual(kinds("depth"), [[3, "operation"], [5, "alert"], [9, "operation"]]);
  assert.deepEqual(kinds("success"), [[1, "alert"], [3, "operation"], [9, "operation"]]);
  assert.deepEqual(kinds("fourth"), [[3, "operation"], [9, "operation"]]);
});

test("an alert shows its labels if its name is not unique", () => {
  assert.deepEqual(words([alert({ labels: { queue: "a" } })]), ["T100  alert Backlog began and is firing: Too many wait."]);
  const [first, second, third] = words([
    alert({ labels: { queue: "a" } }), alert({ labels: { queue: "a" }, severity: "critical" }),
    alert({ labels: { queue: "b" }, until: 200 }),
  ]);
  assert.equal(first, "T100  alert Backlog began and is firing (severity=warning, queue=a): Too many wait.");
  assert.equal(second, "T100  alert Backlog began and is firing (severity=critical, queue=a): Too many wait.");
  assert.equal(third, "T100  alert Backlog began; it fired until T200: severity=warning, queue=b.");
  assert.deepEqual(words([alert({ state: "pending", until: 200 })]), ["T100  alert Backlog began; it was pending until T200."]);
});

test("the record of an active alert is not shown again", () => {
  const active = [alert({ labels: { queue: "a" } })];
  const record = (given) => alert({ summary: undefined, until: null, labels: { queue: "a" }, ...given });
  const others = [
    record({ labels: { queue: "b" } }), record({ severity: "critical" }), record({ since: 90 }), record({ name: "Other" }),
  ];
  assert.deepEqual(allAlerts(active, [record({}), ...others]), [...active, ...others]);
  // The server that recorded it may have added labels of its own; the exact one goes before those.
  const replica = record({ labels: { queue: "a", replica: "1" } });
  assert.deepEqual(allAlerts(active, [replica]), active);
  assert.deepEqual(allAlerts(active, [replica, record({})]), [...active, replica]);
});

test("an active alert whose begin is not known has no place", () => {
  assert.deepEqual(allAlerts([alert({ since: 0 })], []), []);
});

test("marks that would cover each other are one, in the middle of them", () => {
  const marks = [10, 20, 25.9, 26.1, 500].map((at) => ({ at, kind: "operation", words: "" }));
  const clusters = clustersOf(marks, PLACE);
  assert.deepEqual(clusters.map((one) => one.marks.length), [3, 1, 1]);
  assert.deepEqual(clusters.map((one) => one.at), [17.95, 26.1, 500]);
});

test("what is out of sight is not marked; what is newer than the charts is, at the present", () => {
  const at = (instant, place = {}) => clustersOf([{ at: instant, kind: "operation", words: "" }], { ...PLACE, ...place }).map((one) => one.at);
  assert.deepEqual(at(-1), []);
  assert.deepEqual(at(1005), [1000]);
  assert.deepEqual(at(1005, { isLive: false }), []);
  // The axis is zoomed to a time before the present.
  assert.deepEqual(at(1005, { x: (instant) => instant * 2 }), []);
});

test("what lasted is drawn from its begin to its end, or to the present, within the axis", () => {
  const lasting = (from, until) => ({ at: from, until, kind: "alert", words: "" });
  const drawn = spansOf([lasting(-50, 20), lasting(100, null), lasting(990, 1200), lasting(-9, -3), { at: 5, kind: "operation", words: "" }], PLACE);
  assert.deepEqual(drawn.map(({ from, to }) => [from, to]), [[0, 20], [100, 1000], [990, 1000]]);
});

test("unknown operations and alerts are noted", () => {
  assert.equal(marksNote(null, 0, moment), "");
  assert.equal(marksNote({ state: "idle", asOf: 5, list: [] }, 0, moment), "");
  assert.match(marksNote({ state: "stale", asOf: 5, list: [] }, 0, moment), /since T5 are not known/);
  assert.match(marksNote({ state: "unavailable", asOf: null, list: [] }, 2, moment), /not known.*2 earlier alerts are not drawn/);
  assert.match(marksNote(null, 1, moment), /^1 earlier alert is not drawn/);
});
