import assert from "node:assert/strict";
import test from "node:test";

import { Selection } from "../../../src/queuescope/dashboard/static/overview/selection.js";

const DEFAULTS = { range: "24h", refresh: 60, breakdowns: ["queue"] };

/** An address bar and its history, as far as the page uses them. */
function visit(t, search) {
  const steps = [];
  const go = (step) => (state, title, address) => {
    globalThis.location = { ...globalThis.location, search: new URL(address, "http://any").search };
    steps.push(step);
  };
  globalThis.document = { getElementById: () => null };
  globalThis.location = { pathname: "/", search, hash: "" };
  globalThis.history = { state: null, pushState: go("push"), replaceState: go("replace") };
  t.after(() => ["document", "location", "history"].forEach((name) => delete globalThis[name]));
  return steps;
}

test("the address always says what is chosen, and Back leads to the view before", (t) => {
  const steps = visit(t, "?range=6h&scale=cubic");
  const selection = new Selection(DEFAULTS);
  assert.deepEqual([selection.choices.range, selection.remarks.length], ["6h", 1]);
  selection.zoom = [600, 1200];
  selection.keepZoom();
  selection.chooseView({ range: "1h", by: "queue" });
  assert.deepEqual([selection.zoom, selection.remarks], [null, []]);
  selection.change({ refresh: 10 });
  assert.deepEqual(steps, ["push", "push", "replace"]);
  assert.equal(globalThis.location.search, "?refresh=10&by=queue&range=1h");
  assert.equal(selection.isOutdated, false);
  globalThis.location.search = "?range=7d";
  assert.equal(selection.isOutdated, true);
  assert.equal(selection.take().range, "7d");
});
