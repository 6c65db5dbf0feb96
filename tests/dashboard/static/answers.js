// Answers of the server as these tests need them: each part as it is usually, but for what is given.
import { createServer } from "node:http";

/** 2026-01-05 12:00 UTC, a Monday. */
export const NOON = Date.UTC(2026, 0, 5, 12) / 1000;

export function packed(values, dtype = "f4") {
  const types = { f4: Float32Array, f8: Float64Array, u2: Uint16Array, u4: Uint32Array };
  return { dtype, bdata: Buffer.from(types[dtype].from(values).buffer).toString("base64") };
}

/** A curve as the server sends it: a point a minute from `NOON`, with its value. */
export function trace(values, given = {}) {
  return {
    name: "Queue depth", uid: "depth", x0: NOON * 1000, dx: 60_000, y: packed(values),
    words: { of: values.map(String), at: packed(values.keys(), "u4") },
    line: { color: "var(--qs-series-1)" }, hovertemplate: "%{customdata} jobs", ...given,
  };
}

export function panel(given = {}) {
  return {
    id: "any", title: "Any", role: "none", kind: "count", unit: "jobs", by: null, quantile: "",
    quantiles: [],
    state: "fresh", cause: "", warnings: [], asOf: NOON, nowLabel: "now", now: null, atLeast: null,
    hidden: 0, note: "", dataStart: null, relaidAt: null,
    details: { lookup: "hit", series: 1, query: "depth" },
    figure: { data: [trace([1, 2])], layout: { yaxis: {} }, point: "within 1 min" }, ...given,
  };
}

/** The answer to a view of an hour that ends at `NOON`; `view` and `source` are given in part. */
export function answer({ view = {}, source = {}, ...given } = {}) {
  return {
    view: {
      range: "1h", from: NOON - 3600, to: NOON, step: 60, stepWords: "1 min", by: null, follows: true,
      live: null, ...view,
    },
    takenAt: NOON,
    source: { reachable: true, offset: 0, unmeasured: "", ...source },
    panels: [panel()],
    ...given,
  };
}

/** A server that answers with what `reply` gives, or promises: [status, content, headers]. */
export async function serve(t, reply) {
  const asked = [];
  const server = createServer(async (request, response) => {
    asked.push(request.url);
    const [status, content, headers = {}] = await reply(request.url);
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(typeof content === "string" ? content : JSON.stringify(content));
  });
  await new Promise((listening) => { server.listen(0, "127.0.0.1", listening); });
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, asked };
}
