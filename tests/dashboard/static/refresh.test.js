import assert from "node:assert/strict";
import test from "node:test";

import { bannerOf } from "../../../src/queuescope/dashboard/static/overview/banner.js";
import { nextWords, RefreshClock, secondsToNext } from "../../../src/queuescope/dashboard/static/overview/clock.js";
import { customRange, fieldText } from "../../../src/queuescope/dashboard/static/overview/controls.js";
import { answer, NOON, panel } from "./answers.js";

const known = (given = {}) => ({
  answer: answer(), problem: "", failingSince: null, serverNow: NOON, chartNow: NOON, deviceAhead: 0, dataTimes: [NOON],
  ...given,
});
const banner = (given, { custom = null, zone = "UTC" } = {}, remarks = []) => bannerOf(known(given), { custom, zone }, remarks);

test("the next answer is asked for when the last one is as old as was chosen", () => {
  const next = (given) => secondsToNext({ refresh: 60, age: 0, isHealthy: true, isDisconnected: false, ...given });
  assert.equal(next({}), 60);
  assert.equal(next({ age: 45 }), 15);
  assert.equal(next({ age: 600 }), 1);
  assert.equal(next({ refresh: 0 }), null);
});

test("what is not well is looked for sooner, and our own server even with refresh off", () => {
  const next = (given) => secondsToNext({ refresh: 300, age: 0, isHealthy: false, isDisconnected: false, ...given });
  assert.equal(next({}), 10);
  assert.equal(next({ refresh: 0 }), null);
  assert.equal(next({ refresh: 0, isDisconnected: true }), 10);
});

test("the next refresh in words", () => {
  const words = (given) => nextWords({ isAsking: false, isOff: false, isHidden: false, left: 61, ...given });
  assert.equal(words({}), "next in 1 min 1 s");
  assert.equal(words({ isAsking: true, isHidden: true }), "asking now");
  assert.equal(words({ isOff: true, isHidden: true, left: null }), "refresh is off");
  assert.equal(words({ isHidden: true }), "paused");
});

test("the clock calls once, and not for a hidden tab, which is due when shown again", async () => {
  let calls = 0;
  const [seen, hidden, cleared] = [0, 1, 2].map(() => new RefreshClock(() => { calls += 1; }));
  seen.set(0, false);
  hidden.set(0, true);
  cleared.set(0, false);
  cleared.clear();
  assert.ok(seen.left <= 0.5);
  while (!calls || !hidden.isDue) await new Promise((passed) => { setTimeout(passed, 20); });
  assert.equal(calls, 1);
  assert.deepEqual([cleared.isDue, cleared.left], [false, null]);
  seen.set(null, false);
  assert.equal(seen.left, null);
});

test("all is well: no banner", () => {
  assert.equal(banner(), null);
  assert.equal(bannerOf(known({ answer: null, dataTimes: [] }), { custom: null, zone: "UTC" }, []), null);
});

test("without our own server the banner says so, since when, and how old the data are", () => {
  const { tone, text } = banner({ problem: "The server does not answer", failingSince: NOON - 30, dataTimes: [NOON - 3600, NOON - 90] });
  assert.equal(tone, "bad");
  assert.match(text, /^The server does not answer\. Disconnected since 11:59:30\. The charts show the data of 11:58:30, 1 min 30 s old\.$/);
  assert.doesNotMatch(banner({ problem: "no", dataTimes: [] }).text, /old/);
});

test("three days and some seconds are shown as days", () => {
  assert.match(banner({ problem: "no", dataTimes: [NOON - 3 * 86_400 - 20] }).text, /, 3 d old\.$/);
});

test("a source that does not answer is reported with its last answer, or with what to check", () => {
  const away = (lastSeen) => answer({ source: { reachable: false, cause: "no connection", lastSeen } });
  assert.match(banner({ answer: away(NOON - 60) }).text, /^no connection\. Last answer at 11:59:00\. The charts show/);
  assert.match(banner({ answer: away(null), dataTimes: [] }).text, /^no connection\. Check that Prometheus runs/);
});

test("charts that are older than the others are named, with the age of the oldest", () => {
  const stale = (title, asOf) => panel({ title, asOf, state: "stale", cause: "timed out" });
  const { tone, text } = banner({ answer: answer({ panels: [stale("Depth", NOON - 60), panel(), stale("Cost", NOON - 120)] }) });
  assert.equal(tone, "bad");
  assert.match(text, /^Depth, Cost: timed out\. .* 2 min old\.$/);
});

test("remarks on the address stay beside what is worse", () => {
  assert.deepEqual(banner({}, {}, ["range='zz': no."]), { tone: "note", text: "range='zz': no." });
  assert.match(banner({ problem: "no" }, {}, ["range='zz': no."]).text, / old\. range='zz': no\.$/);
});

test("a wrong clock of this device is noted, unless it agrees with Prometheus", () => {
  assert.equal(banner({ deviceAhead: 4 }), null);
  assert.match(banner({ deviceAhead: 5430 }).text, /1 h 30 min ahead of the server's/);
  assert.match(banner({ deviceAhead: -2 * 86_400 }).text, /2 d behind the server's/);
  assert.equal(banner({ deviceAhead: 3600, answer: answer({ source: { offset: 3600 } }) }), null);
});

test("a range that ends in the future, or over a change of the clocks, is noted", () => {
  assert.match(banner({}, { custom: [NOON - 60, NOON + 3600] }).text, /ends in the future/);
  assert.equal(banner({}, { custom: [NOON - 60, NOON + 30] }), null);
  const change = Date.parse("2026-03-29T01:00Z") / 1000;
  const over = answer({ view: { from: change - 3600, to: change + 3600 } });
  assert.match(banner({ answer: over }, { zone: "Europe/Berlin" }).text, /clocks change within this range; all times are UTC\+2\./);
  assert.equal(banner({ answer: over }), null);
});

test("a range is chosen by two times of the reader's clock", () => {
  const chosen = (from, to) => customRange(from, to, "Asia/Kolkata", NOON);
  assert.deepEqual(chosen("2026-01-05T15:30", "2026-01-05T17:30"), { range: [NOON - 7200, NOON], problem: "" });
  for (const [from, to, problem] of [
    ["", "2026-01-05T17:30", "Give both times."],
    ["2026-01-05T17:30", "2026-01-05T17:30", "The start must lie before the end."],
    ["2026-01-06T00:00", "2026-01-06T01:00", "The start lies in the future."],
  ]) assert.deepEqual(chosen(from, to), { range: null, problem });
});

test("the range that is shown stands in the fields, and comes back as it was, over a change of the clocks, too", () => {
  for (const change of ["2026-03-29T01:00Z", "2026-10-25T01:00Z"].map((text) => Date.parse(text) / 1000)) {
    const window = [change - 6 * 3600, change + 6 * 3600];
    const [from, to] = window.map((at) => fieldText(at, "Europe/Berlin"));
    assert.deepEqual(customRange(from, to, "Europe/Berlin", change + 86_400).range, window);
  }
  assert.equal(fieldText(NOON + 59, "Asia/Kolkata"), "2026-01-05T17:30");
});
