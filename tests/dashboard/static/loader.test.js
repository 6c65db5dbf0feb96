import assert from "node:assert/strict";
import test from "node:test";

import { Loader } from "../../../src/queuescope/dashboard/static/overview/loader.js";
import { Store } from "../../../src/queuescope/dashboard/static/overview/store.js";
import { answer, NOON, panel, serve } from "./answers.js";

const CHOICES = { range: "1h", custom: null, by: "none", step: null, refresh: 60, zone: "UTC", scale: "linear" };

/** A loader on such a server, and what it reported. */
async function loaderOn(t, reply, page = {}) {
  const { url, asked } = await serve(t, reply);
  const store = new Store(url);
  const choices = { choices: { ...CHOICES }, zoom: null, isHidden: false, ...page };
  const heard = [];
  const hear = (name) => () => heard.push(name);
  const loader = new Loader(store, choices, {
    onAsk: ({ isQuiet, isNow, maxAge }) => heard.push(`ask ${isQuiet} ${isNow} ${maxAge}`),
    onDone: hear("done"), onAnswer: hear("answer"), onFine: hear("fine"), onScheduled: () => {},
    onZoom: (isLoading) => heard.push(`zoom ${isLoading}`), onRefused: (refusal) => heard.push(refusal.words),
  });
  loader.isRunning = true;
  t.after(() => loader.stop());
  return { loader, store, page: choices, heard, asked };
}

/** The answer to a view, whose panel is named like its range; it is as young as can be. */
const answered = (url) => {
  const range = new URL(url, "http://any").searchParams.get("range");
  const content = answer({ view: { range, step: range ? 60 : 15 }, panels: [panel({ id: range ?? "fine" })] });
  return [200, content, { "queuescope-now": String(NOON) }];
};

test("a view is asked for with its refresh interval, and the next time is known", async (t) => {
  const { loader, store, heard, asked } = await loaderOn(t, answered);
  await loader.load();
  assert.match(asked[0], /view\?range=1h&refresh=60&age=60&/);
  assert.deepEqual(heard, ["ask false false 60", "answer", "done"]);
  assert.equal(store.answer.panels[0].id, "1h");
  assert.match(loader.nextWords, /^next in (1 min|59 s)$/);
});

test("an answer that is no longer wanted is not shown, whichever comes first", async (t) => {
  let release;
  const held = new Promise((passed) => { release = passed; });
  const { loader, store, page, heard } = await loaderOn(t, async (url) => {
    if (url.includes("range=1h")) await held;
    return answered(url);
  });
  const first = loader.load();
  page.choices.range = "6h";
  await loader.load();
  release();
  await first;
  assert.equal(store.answer.panels[0].id, "6h");
  assert.deepEqual(heard, ["ask false false 60", "ask false false 60", "answer", "done"]);
});

test("a view that was seen a moment ago is shown again without asking", async (t) => {
  const { loader, store, page, asked } = await loaderOn(t, answered);
  for (const range of ["1h", "6h"]) {
    page.choices.range = range;
    await loader.load();
  }
  page.choices.range = "1h";
  loader.loadOrRecall();
  assert.equal(store.answer.panels[0].id, "1h");
  assert.equal(asked.length, 2);
});

test("without an answer the page tries again soon, even with refresh off", async (t) => {
  const replies = [[503, "no"], [400, { error: "step='x': no" }]];
  const { loader, store, page, heard } = await loaderOn(t, () => replies.shift());
  page.choices.refresh = 0;
  await loader.load({ isQuiet: true, isNow: true });
  assert.deepEqual(heard, ["ask true true 1", "answer", "done"]);
  assert.match(store.problem, /does not answer/);
  assert.match(loader.nextWords, /^next in (10|9) s$/);
  await loader.load();
  assert.equal(store.problem, "step='x': no");
});

test("with refresh off, and in a hidden tab, nothing is asked for", async (t) => {
  const { loader, page } = await loaderOn(t, answered);
  page.choices.refresh = 0;
  await loader.load();
  assert.equal(loader.nextWords, "refresh is off");
  assert.equal(loader.clock.left, null);
  Object.assign(page, { choices: { ...CHOICES }, isHidden: true });
  loader.schedule();
  assert.equal(loader.nextWords, "paused");
});

test("a zoom asks for half a window more on each side, and keeps only what is finer", async (t) => {
  const window = [NOON - 1200, NOON - 600];
  const { loader, store, page, heard, asked } = await loaderOn(t, answered);
  await loader.load();
  page.zoom = window;
  await loader.loadFine();
  const query = new URL(asked[1], "http://any").searchParams;
  const ends = ["from", "to"].map((name) => Date.parse(query.get(name)) / 1000);
  assert.deepEqual(ends, [NOON - 1500, NOON - 300]);
  assert.equal(store.fine.panels[0].id, "fine");
  assert.deepEqual(heard.slice(-3), ["zoom true", "fine", "zoom false"]);
  store.answer.view.step = 15;
  await loader.loadFine();
  assert.equal(store.fine, null);
});

test("a reader who may not view it gets the reason", async (t) => {
  const { loader, store, heard } = await loaderOn(t, () => [401, { refused: "login", error: "Log in." }]);
  await loader.load();
  assert.ok(heard.includes("Log in."));
  assert.equal(store.answer, null);
});

test("of several questions for flows the last one counts, and a breakdown has none", async (t) => {
  const { loader, page } = await loaderOn(t, (url) => (
    url.includes("/flow") ? [200, { state: "empty", states: "" }] : answered(url)
  ));
  await loader.load();
  const [first, second] = await Promise.all([loader.flows(), loader.flows()]);
  assert.deepEqual([first, second], [null, [null]]);
  page.choices.by = "queue";
  assert.deepEqual(await loader.flows(), []);
});
