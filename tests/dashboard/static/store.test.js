import assert from "node:assert/strict";
import test from "node:test";

import { Store } from "../../../src/queuescope/dashboard/static/overview/store.js";
import { BoundedMap } from "../../../src/queuescope/dashboard/static/ui/bounded_map.js";
import { Declined, Refused } from "../../../src/queuescope/dashboard/static/ui/request.js";
import { answer, NOON, packed, panel, serve } from "./answers.js";

const SIGNAL = new AbortController().signal;

/** A store on a server that answers with what `reply` gives. */
async function storeOn(t, reply) {
  const { url, asked } = await serve(t, reply);
  return { store: new Store(url), asked };
}

function kept(given = {}, age = 0) {
  return { ...answer(given), query: "range=1h", serverNow: NOON + age, receivedAt: performance.now() };
}

test("a bounded map keeps those that were used last", () => {
  const map = new BoundedMap(2);
  map.set("a", 1);
  map.set("b", 2);
  assert.equal(map.get("a"), 1);
  map.set("c", 3);
  assert.deepEqual(["a", "b", "c"].map((key) => map.get(key)), [1, undefined, 3]);
  map.set("a", 0);
  assert.equal(map.size, 2);
  map.clear();
  assert.equal(map.size, 0);
});

test("a request carries the age, and its answer the server's time", async (t) => {
  const { store, asked } = await storeOn(t, () => [200, answer(), { "queuescope-now": String(NOON + 7) }]);
  const got = await store.ask("range=1h", 60, SIGNAL);
  assert.match(asked[0], /^\/queuescope\/view\?range=1h&age=60&page=\w+$/);
  store.take("range=1h", got);
  assert.equal(Math.round(store.serverNow), NOON + 7);
  assert.equal(Math.round(store.age), 7);
  assert.ok(Math.abs(store.deviceAhead - (Date.now() / 1000 - NOON - 7)) < 60);
  assert.ok(store.isHealthy);
});

test("what is no answer is an error that says which", async (t) => {
  const replies = [
    [400, { error: "step='x': no" }], [500, "failed"], [200, "<html>", { "content-type": "text/html" }],
    [401, { refused: "login", error: "Log in." }], [403, { refused: "right", error: "Not yours." }],
    // A proxy before us sends to its login.
    [403, "<html>", { "content-type": "text/html" }],
  ];
  const { store } = await storeOn(t, () => replies.shift());
  const failed = async () => store.ask("range=1h", 60, SIGNAL).then(assert.fail, (error) => error);
  const declined = await failed();
  assert.ok(declined instanceof Declined);
  assert.equal(declined.message, "step='x': no");
  for (const plain of [await failed(), await failed()]) assert.ok(!(plain instanceof Declined || plain instanceof Refused));
  assert.deepEqual((await failed()).refusal, { words: "Log in.", login: true });
  assert.deepEqual((await failed()).refusal, { words: "Not yours.", login: false });
  assert.equal((await failed()).refusal.login, true);
});

test("a view is come back to while its answer is young and all was well", () => {
  const store = new Store("");
  store.take("a", kept());
  store.take("old", kept({}, 61));
  store.take("bad", kept({ panels: [panel({ state: "stale" })] }));
  store.take("away", kept({ source: { reachable: false } }));
  assert.deepEqual(["a", "old", "bad", "away", "never"].map((key) => store.recall(key, 60)), [true, false, false, false, false]);
  assert.ok(store.isHealthy);
});

test("however many views are looked at, few answers and flows are kept", async (t) => {
  const flow = {
    state: "fresh", states: "g", from: NOON, step: 60, windows: [600], windowWords: {},
    arrivedPerMinute: packed([1]), completedPerMinute: packed([1]),
  };
  const { store, asked } = await storeOn(t, () => [200, flow]);
  for (let n = 0; n < 40; n += 1) {
    const one = kept({ view: { to: NOON + n } });
    store.take(`view ${n}`, one);
    const [got] = await store.flows([one]);
    assert.equal(got.states, "g");
  }
  assert.ok(store.size <= 40, String(store.size));
  const before = asked.length;
  await store.flows([kept({ view: { to: NOON + 39 } })]);
  assert.equal(asked.length, before, "a young flow is not asked for again");
});

test("a flow that cannot be had is none, and leaves the charts as they are", async (t) => {
  const replies = [[500, "failed"], [200, { state: "empty", states: "" }]];
  const { store } = await storeOn(t, () => replies.shift());
  assert.deepEqual(await store.flows([kept()]), [null]);
  assert.deepEqual(await store.flows([kept()]), [null]);
});

test("without our own server what is drawn is stale, and never passes for another view", () => {
  const store = new Store("");
  store.take("1h", kept({ panels: [panel({ asOf: NOON }), panel({ id: "never", asOf: null })] }));
  store.fail("1h", "no answer", false);
  assert.deepEqual(store.answer.panels.map(({ state }) => state), ["stale", "unavailable"]);
  assert.ok(store.failingSince && store.triedAt);
  assert.ok(!store.isHealthy);
  store.fail("6h", "no answer", false);
  assert.deepEqual(store.answer.panels.map(({ state, asOf, figure }) => [state, asOf, figure.data.length]), [
    ["unavailable", null, 0], ["unavailable", null, 0],
  ]);
  // Come back to, what was known of the first is there again.
  store.fail("1h", "no answer", false);
  assert.equal(store.answer.panels[0].asOf, NOON);
  // A refusal in words is an answer.
  store.fail("1h", "step: no", true);
  assert.equal(store.failingSince, null);
  store.take("1h", kept());
  assert.deepEqual([store.problem, store.triedAt, store.isHealthy], ["", null, true]);
});

test("before the first answer there is nothing but the problem", () => {
  const store = new Store("");
  store.fail("1h", "no answer", false);
  assert.deepEqual([store.answer, store.problem, store.failingSince, store.dataTimes], [null, "no answer", null, []]);
});

test("the charts' clock is Prometheus's", () => {
  const store = new Store("");
  store.take("1h", kept({ source: { offset: -1800 } }));
  assert.equal(Math.round(store.chartNow), NOON - 1800);
});
