import assert from "node:assert/strict";
import test from "node:test";

import {
  ageText, browserZone, durationText, epochOf, instantOf, isZone, momentText, offsetSeconds,
  offsetText, wallText,
} from "../../../src/queuescope/dashboard/static/ui/time.js";

const at = (text) => Date.parse(text) / 1000;
// Berlin goes to summer at 01:00 UTC on 29 March 2026, and back at 01:00 UTC on 25 October.
const TO_SUMMER = at("2026-03-29T01:00Z");
const TO_WINTER = at("2026-10-25T01:00Z");

test("a zone's offset is that of the instant, to the second at which the clocks change", () => {
  assert.equal(offsetSeconds("UTC", TO_SUMMER), 0);
  assert.equal(offsetSeconds("Australia/Darwin", TO_SUMMER), 34_200);
  assert.equal(offsetSeconds("America/St_Johns", at("2026-01-01T00:00Z")), -12_600);
  assert.equal(offsetSeconds("Europe/Berlin", TO_SUMMER - 1), 3600);
  assert.equal(offsetSeconds("Europe/Berlin", TO_SUMMER), 7200);
  assert.equal(offsetSeconds("Europe/Berlin", TO_WINTER - 0.5), 7200);
  assert.equal(offsetSeconds("Europe/Berlin", TO_WINTER), 3600);
});

test("an offset has minutes if they are not 0", () => {
  assert.deepEqual(
    [0, 3600, -12_600, 34_200, -18_000].map(offsetText), ["UTC", "UTC+1", "UTC−3:30", "UTC+9:30", "UTC−5"],
  );
});

test("what is written for Plotly is read back, over a change of the clocks, too", () => {
  for (const change of [TO_SUMMER, TO_WINTER]) {
    const offset = offsetSeconds("Europe/Berlin", change + 3600);
    const hours = [-2, -1, 0, 1, 2].map((hour) => change + hour * 3600);
    const walls = hours.map((hour) => wallText(hour, offset));
    // With one offset no hour is there twice, and none is left out.
    assert.equal(new Set(walls).size, hours.length);
    assert.deepEqual(walls.map((wall) => epochOf(wall, offset)), hours);
  }
  // Plotly leaves out a time of midnight, and gives fractions.
  assert.equal(epochOf("2026-03-29", 0), at("2026-03-29T00:00Z"));
  assert.equal(epochOf("2026-03-29 10:00:00.5", 3600), at("2026-03-29T09:00:00.500Z"));
});

test("a time on a reader's clock is an instant", () => {
  assert.equal(instantOf("2026-03-29T01:30", "Europe/Berlin"), TO_SUMMER - 1800);
  assert.equal(instantOf("2026-03-29T03:30", "Europe/Berlin"), TO_SUMMER + 1800);
  assert.equal(instantOf("2026-10-25T12:00", "Europe/Berlin"), at("2026-10-25T11:00Z"));
  assert.equal(instantOf("2026-01-05T12:00", "Asia/Kolkata"), at("2026-01-05T06:30Z"));
  // Of the hour that comes twice it is one of the two.
  const twice = instantOf("2026-10-25T02:30", "Europe/Berlin");
  assert.ok([TO_WINTER - 1800, TO_WINTER + 1800].includes(twice));
  for (const nothing of ["", "soon"]) assert.ok(Number.isNaN(instantOf(nothing, "Europe/Berlin")));
});

test("a moment has its date unless it is of the reader's own day", () => {
  const now = at("2026-01-05T12:00Z");
  assert.equal(momentText(at("2026-01-05T00:10:05Z"), "UTC", now), "00:10:05");
  assert.equal(momentText(at("2026-01-05T00:10Z"), "America/New_York", now), "2026-01-04 19:10:00");
  assert.equal(momentText(at("2026-01-04T23:10Z"), "Europe/Berlin", now), "00:10:00");
});

test("a duration has its two largest units", () => {
  const texts = {
    0: "0 s", 0.4: "0 s", 59.6: "1 min", 61: "1 min 1 s", 3600: "1 h", 3661: "1 h 1 min", 86_399: "23 h 59 min",
    90_000: "1 d 1 h", 259_220: "3 d", "-5": "0 s",
  };
  for (const [seconds, words] of Object.entries(texts)) assert.equal(durationText(Number(seconds)), words);
});

test("the older an age the coarser", () => {
  const texts = { 9: "9 s", 61: "1 min 1 s", 615: "10 min", 4_000: "1 h 6 min", 40_000: "11 h", 259_220: "3 d" };
  for (const [seconds, words] of Object.entries(texts)) assert.equal(ageText(Number(seconds)), words);
});

test("what is no zone is none, and the reader has one", () => {
  assert.deepEqual(["Europe/Berlin", "UTC", "Mars/Base", ""].map(isZone), [true, true, false, false]);
  assert.ok(isZone(browserZone()));
});
