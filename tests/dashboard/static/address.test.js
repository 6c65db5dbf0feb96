import assert from "node:assert/strict";
import test from "node:test";

import {
  addressOf, isBareAddress, isWrittenAs, readAddress, viewQuery,
} from "../../../src/queuescope/dashboard/static/overview/address.js";
import { browserZone } from "../../../src/queuescope/dashboard/static/ui/time.js";

const DEFAULTS = { range: "24h", refresh: 60, breakdowns: ["queue", "tenant"], base: "", layout: {} };
const params = (text) => new URLSearchParams(text);
const read = (text, asked = null) => readAddress(DEFAULTS, asked, params(text));
const OTHER_ZONE = browserZone() === "Asia/Tokyo" ? "Asia/Kolkata" : "Asia/Tokyo";

test("an empty address means the defaults", () => {
  const { choices, zoom, remarks } = read("");
  assert.deepEqual(choices, {
    range: "24h", custom: null, by: "none", step: null, refresh: 60, zone: browserZone(), scale: "linear",
  });
  assert.deepEqual([zoom, remarks], [null, []]);
});

test("what the page writes it reads as the same, whatever was chosen", () => {
  const noon = Date.UTC(2026, 0, 5, 12) / 1000;
  const plain = read("").choices;
  for (const part of [
    {}, { range: "7d" }, { range: "2d", step: "600" }, { custom: [noon - 3600, noon] }, { by: "tenant" },
    { refresh: 0 }, { refresh: 300 }, { zone: "UTC" }, { zone: OTHER_ZONE }, { scale: "log" },
    { custom: [noon - 7200.5, noon], by: "queue", refresh: 10, zone: OTHER_ZONE, scale: "log", step: "15" },
  ]) {
    for (const zoom of [null, [noon - 600, noon - 300]]) {
      const choices = { ...plain, ...part };
      const address = addressOf(choices, zoom, params(""));
      const again = readAddress(DEFAULTS, null, params(address.toString()));
      // While there is a range of its own, a named one does not matter.
      assert.deepEqual(again, { choices, zoom, remarks: [] });
      assert.ok(isWrittenAs(choices, zoom, address));
    }
  }
});

test("what is not the page's stays in the address, and what others wrote goes", () => {
  const { choices } = read("");
  const address = addressOf(choices, null, params("orgId=1&from=now-3h&to=now&timezone=utc&zoom=x&by=queue&scale=log"));
  assert.deepEqual(Object.fromEntries(address), { orgId: "1", range: "24h", refresh: "60" });
});

test("a rejected parameter gets a remark, with what is shown instead", () => {
  const { choices, remarks } = read("range=1h&refresh=7&tz=Mars/Base&scale=cubic");
  assert.equal(choices.refresh, 60);
  assert.equal(choices.zone, browserZone());
  assert.equal(choices.scale, "linear");
  assert.deepEqual(remarks, [
    "refresh='7': choose one of off, 10, 30, 60, 300. Shown instead: 60 s.",
    `tz='Mars/Base': give UTC or a zone such as Europe/Berlin. Shown instead: ${browserZone()}.`,
    "scale='cubic': choose one of linear, log. Shown instead: linear.",
  ]);
  assert.match(read(`tz=${"x".repeat(99)}`).remarks[0], /^tz='x{40}':/);
});

test("refresh and zone are taken as other tools write them", () => {
  const refreshes = { off: 0, 0: 0, 10: 10, "10s": 10, "1m": 60, "5m": 300 };
  for (const [text, seconds] of Object.entries(refreshes)) {
    assert.equal(read(`refresh=${text}`).choices.refresh, seconds, text);
  }
  for (const text of ["tz=UTC", "tz=utc", "timezone=utc"]) assert.equal(read(text).choices.zone, "UTC");
  assert.equal(read("timezone=browser").choices.zone, browserZone());
  assert.equal(read("tz=Asia/Kolkata&timezone=utc").choices.zone, "Asia/Kolkata");
});

test("what the server made of an address goes before what stands in it", () => {
  const asked = { range: null, custom: [0, 3600], by: "queue", step: 60, zoom: [600, 1200], remarks: ["a remark"] };
  const { choices, zoom, remarks } = read("from=now-1h&to=now&by=x&refresh=off", asked);
  assert.deepEqual([choices.custom, choices.by, choices.step, choices.refresh], [[0, 3600], "queue", "60", 0]);
  assert.deepEqual([zoom, remarks], [[600, 1200], ["a remark"]]);
});

test("no breakdown, range or window is taken that there is not", () => {
  const backwards = "from=2026-01-05T12:00Z&to=2026-01-05T11:00Z&zoom=2026-01-05T12:00Z,2026-01-05T11:00Z";
  const { choices, zoom } = read(`range=zz&by=job&${backwards}`);
  assert.deepEqual([choices.range, choices.by, choices.custom, zoom], ["24h", "none", null, null]);
});

test("an address without a range is bare, and never as the page writes it", () => {
  const { choices } = read("");
  assert.deepEqual(["", "by=queue", "range=1h", "from=1", "to=1"].map((text) => isBareAddress(params(text))), [true, true, false, false, false]);
  assert.ok(!isWrittenAs(choices, null, params("")));
  assert.ok(!isWrittenAs(choices, null, params("range=1h")));
  assert.ok(!isWrittenAs(choices, null, params("range=24h&tz=Mars/Base")));
});

test("the server is asked for whole seconds, and for a window without the chosen step", () => {
  const choices = { ...read("").choices, by: "queue", step: "60" };
  assert.equal(viewQuery(choices, null), "range=24h&by=queue&step=60");
  assert.equal(
    decodeURIComponent(viewQuery(choices, [0.9, 3599.1])), "from=1970-01-01T00:00:00Z&to=1970-01-01T01:00:00Z&by=queue",
  );
  assert.match(viewQuery({ ...choices, custom: [0, 60] }, null), /^from=1970.*&step=60$/);
});
