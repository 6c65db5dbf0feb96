import assert from "node:assert/strict";
import test from "node:test";

import { chartDetails, chartNotes } from "../../../src/queuescope/dashboard/static/charts/details.js";
import { badgeWords } from "../../../src/queuescope/dashboard/static/overview/card.js";
import {
  chartMessage, hasCurves, isAnswered, isAway, STATE_SENTENCES, STATE_WORDS,
} from "../../../src/queuescope/dashboard/static/ui/states.js";
import { answer, NOON, panel, trace } from "./answers.js";

const STATES = ["fresh", "partial", "stale", "empty", "idle", "unavailable"];
const context = (page = {}) => ({
  zone: "UTC", now: () => NOON, answer: () => answer(), page: () => ({ problem: "", next: "next in 5 s", ...page }),
});
const details = (given, page) => Object.fromEntries(chartDetails(panel(given), panel(given), context(page)));

test("each state has its words, and is answered, or away, or without anything to show", () => {
  assert.deepEqual(Object.keys(STATE_WORDS), STATES);
  assert.deepEqual(Object.keys(STATE_SENTENCES), STATES);
  assert.deepEqual(STATES.filter(isAnswered), ["fresh", "partial"]);
  assert.deepEqual(STATES.filter(hasCurves), ["fresh", "partial", "stale"]);
  assert.deepEqual(STATES.filter(isAway), ["stale", "unavailable"]);
});

test("a chart with curves says what is wrong below them, one without in their place", () => {
  const message = (state, given = {}, isUnmeasured = false) => (
    chartMessage({ state, cause: "no answer", warnings: ["a remark"], ...given }, isUnmeasured)
  );
  assert.deepEqual(message("fresh"), { title: "", text: "Prometheus remarks: a remark" });
  assert.deepEqual(message("fresh", { warnings: [] }), { title: "", text: "" });
  for (const state of ["partial", "stale"]) assert.deepEqual(message(state), { title: "", text: "no answer. a remark" });
  for (const state of ["empty", "idle", "unavailable"]) {
    const { title, text } = message(state);
    assert.ok(title);
    assert.match(text, /no answer/);
  }
  // It is said once above all charts.
  assert.deepEqual(message("empty", {}, true), { title: "Not measured yet", text: "" });
});

test("the notes tell what a reader must know to read a chart right", () => {
  const notes = (given, shown = given) => chartNotes(panel(given), panel(shown), context());
  assert.equal(notes({}), "");
  assert.equal(notes({ dataStart: NOON - 3600 }), "The data start at 11:00; nothing is known before.");
  assert.match(notes({}, { relaidAt: NOON - 60 }), /^The buckets change at 11:59;/);
  assert.match(notes({ atLeast: "2 min" }), /may be above 2 min\.$/);
});

test("the details name state, age, query and the next try", () => {
  const rows = details({ asOf: NOON - 90, details: { lookup: "partial_hit", series: 3, query: "q", scrapes: "every 15 s" } });
  assert.match(rows.State, /^fresh\. /);
  assert.equal(rows["Data as of"], "11:58:30, 1 min 30 s ago");
  assert.deepEqual([rows["Next try"], rows.Step, rows.Series, rows.Query, rows.Scraped], ["next in 5 s", "1 min", "3", "q", "every 15 s"]);
  assert.equal("Cause" in rows || "Kind" in rows || "Source" in rows, false);
});

test("the details of an outage name its cause, its kind and the last answer", () => {
  const away = { state: "stale", cause: "no connection", details: { lookup: "source_error", series: 1, kind: "cannot_connect" } };
  const rows = details(away, { lastSeen: NOON - 60, version: "3.1" });
  assert.deepEqual([rows.Cause, rows.Kind, rows["Last answer"], rows.Source], ["no connection.", "cannot_connect", "11:59:00", "version 3.1"]);
  assert.equal(details(away, { problem: "no answer" }).Kind, "dashboard_away");
  assert.equal(details({ ...away, state: "unavailable", asOf: null })["Data as of"], "none");
});

test("a character that cannot be seen in a name is explained", () => {
  const figure = (name) => ({ data: [trace([1], { name })], layout: {}, point: "" });
  assert.match(details({ figure: figure("a&lt;\\u202e") }).Names, /^a<\\u202e: /);
  assert.equal(details({ figure: figure("plain") }).Names, undefined);
});

test("a card's badge shows its state, or that its figure is beyond its limit", () => {
  const card = { level: "bad", levelWords: "too high", instead: "from Prometheus" };
  assert.equal(badgeWords("fresh", card), "too high");
  assert.equal(badgeWords("fresh", { ...card, level: "none" }), "");
  assert.equal(badgeWords("partial", card), "too high");
  assert.equal(badgeWords("partial", { ...card, levelWords: "" }), "from Prometheus");
  assert.equal(badgeWords("partial", { ...card, instead: "" }), "partial");
  assert.equal(badgeWords("stale", card), "stale");
  assert.equal(badgeWords("unavailable", undefined), "unavailable");
});
