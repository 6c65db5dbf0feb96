import assert from "node:assert/strict";
import test from "node:test";

import { alertCounts } from "../../../src/queuescope/dashboard/static/overview/alerts.js";
import { countedWords } from "../../../src/queuescope/dashboard/static/overview/failures.js";
import { printedWords } from "../../../src/queuescope/dashboard/static/overview/printing.js";
import { sourceSentences } from "../../../src/queuescope/dashboard/static/overview/sources.js";
import { floatsOf, sparklinePaths } from "../../../src/queuescope/dashboard/static/overview/sparkline.js";
import { csvText, pointRows } from "../../../src/queuescope/dashboard/static/charts/points.js";
import { decodeTraces } from "../../../src/queuescope/dashboard/static/charts/figure.js";
import { plainText, sentence } from "../../../src/queuescope/dashboard/static/ui/text.js";
import { themeOf } from "../../../src/queuescope/dashboard/static/ui/theme.js";
import { answer, NOON, packed, panel, trace } from "./answers.js";

test("a sparkline leaves gaps, and draws a lone point as a dash", () => {
  const values = floatsOf(packed([0, 10, NaN, 5, NaN]).bdata);
  assert.deepEqual(sparklinePaths(values), {
    line: "M0.00 27.00L25.00 1.00M75.00 14.00h0.8",
    area: "M0.00 28L0.00 27.00L25.00 1.00L25.00 28ZM75.00 28L75.00 14.00L75.00 28Z",
  });
  assert.deepEqual(sparklinePaths([]), { line: "", area: "" });
  assert.equal(sparklinePaths([3, 3]).line, "M0.00 1.00L100.00 1.00");
  assert.equal(sparklinePaths([0, 0]).line, "M0.00 27.00L100.00 27.00");
});

test("alerts and failures are counted in words", () => {
  const alerts = (...states) => states.map((state) => ({ state }));
  assert.equal(alertCounts([]), "no alerts");
  assert.equal(alertCounts(alerts("firing")), "1 alert firing");
  assert.equal(alertCounts(alerts("firing", "pending", "firing")), "2 alerts firing, 1 pending");
  assert.equal(countedWords(null), "last 24 h");
  assert.equal(countedWords({ count: 1234, groupCount: 1, isWhole: false }), "last 24 h: at least 1,234 of 1 kind");
  assert.equal(countedWords({ count: 12, groupCount: 5, isWhole: true }), "last 24 h: 12 of 5 kinds");
});

test("a source says how old it is, why it is away, and what to know of it", () => {
  const said = (given, problem = "") => sourceSentences({
    id: "prometheus", title: "Prometheus", state: "fresh", asOf: NOON, since: null, cause: "", kind: "", measures: ["Queue depth"],
    notes: ["Samples of a, b and c arrive 10 min late."], ...given,
  }, problem, { now: () => NOON + 90, moment: (at) => `+${at - NOON}` });
  assert.deepEqual(said({}), ["As of +0.", "Samples of a, b and c arrive 10 min late.", "Source of: Queue depth."]);
  assert.deepEqual(said({ state: "stale", since: NOON + 30, cause: "it is down", kind: "down", notes: [], measures: [] }), [
    "It is down, since +30.", "As of +0, 1 min 30 s old.", "Kind: down.",
  ]);
  assert.deepEqual(said({ asOf: null, notes: [] }, "The server does not answer."), [
    "The server does not answer.", "Source of: Queue depth.",
  ]);
});

test("a printed sheet says of when it is, in which zone, and how old", () => {
  const printed = (given) => printedWords({
    view: answer().view, zoom: null, zone: "UTC", offset: 0, stepWords: "1 min", asOf: NOON, now: NOON + 90, ...given,
  });
  assert.match(printed({}), /^The last 1h: 2026-01-05 11:00:00 to 2026-01-05 12:00:00, a point every 1 min\.\nTimes are in UTC\. Data as of 2026-01-05 12:00:00, 1 min 30 s old when printed\.$/);
  assert.match(printed({ zoom: [NOON - 60, NOON], zone: "Asia/Tokyo", offset: 32_400 }), /^2026-01-05 20:59:00 .*Asia\/Tokyo \(UTC\+9\)/s);
  assert.match(printed({ view: { ...answer().view, by: "queue" }, asOf: null }), /Broken down by queue\. There are no data\.$/);
});

test("the points of a curve are rows of a table, in the reader's zone", () => {
  const [curve] = decodeTraces({
    data: [trace([1, NaN], { name: "a &amp; b", live: 7, liveWords: "7" })], live: { at: NOON + 90.5, from: NOON + 60 },
  });
  const rows = pointRows(panel({ by: "queue" }), curve, [NOON, NOON + 60], { offset: -12_600, zone: "America/St_Johns" });
  assert.deepEqual(rows.map(({ isOpen }) => isOpen), [false, false, true]);
  assert.deepEqual(rows[0].cells, [
    "any", "jobs", "queue", "", "a & b", "2026-01-05T08:30:00-03:30", "2026-01-05T08:31:00-03:30", "America/St_Johns",
    "2026-01-05T08:30:00-03:30", 1, "closed",
  ]);
  assert.deepEqual(rows[1].cells.slice(-3), ["2026-01-05T08:31:00-03:30", "", "closed"]);
  assert.deepEqual(rows[2].cells.slice(-3), ["2026-01-05T08:31:30.500-03:30", 7, "open"]);
  const [safe] = decodeTraces({ data: [trace([1], { name: "=x", cell: "'=x" })] });
  assert.equal(pointRows(panel({ quantiles: ["'=x"] }), safe, [0, 1], { offset: 0, zone: "UTC" })[0].cells[3], "'=x");
});

test("a cell is quoted where it must be", () => {
  assert.equal(csvText([["a", 'b"c', "d,e", "f\ng", 1]]), 'a,"b""c","d,e","f\ng",1\r\n');
});

test("texts become sentences, and what was escaped for Plotly is text again", () => {
  assert.deepEqual(["no", "no.", "why?", "so…"].map(sentence), ["no.", "no.", "why?", "so…"]);
  assert.equal(plainText("&lt;b&gt; &amp;lt;"), "<b> &lt;");
});

test("a background is dark or light, in each way that a browser writes it", () => {
  for (const dark of ["#000", "#10161c", "rgb(16, 22, 28)", "rgba(0, 0, 0, 1)"]) assert.equal(themeOf(dark), "dark");
  for (const light of ["#fff", "#ffffff", "rgb(255, 255, 255)"]) assert.equal(themeOf(light), "light");
  assert.equal(themeOf(""), null);
});
