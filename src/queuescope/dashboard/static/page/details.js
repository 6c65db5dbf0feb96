// What an engineer wants to know of a chart, and the notes below it that everybody should read.

const LOOKUPS = {
  hit: "all of it was kept from before",
  partial_hit: "the newest points asked for, the rest kept from before",
  range_miss: "read anew for the whole range",
  key_miss: "read for the first time",
  source_error: "nothing new: the source failed",
};

const STATE_SENTENCES = {
  fresh: "Prometheus answered for just this.",
  partial: "Prometheus answered, and warned that something may be missing.",
  stale: "The last good data: there is no newer answer.",
  empty: "Prometheus answered that there is no such series.",
  idle: "The series exist, but nothing happened that could be measured.",
  unavailable: "No answer, and nothing kept from before.",
};

// The sentences below a chart: what a reader must know to read it right.
function chartNotes(panel, shown, context) {
  const moment = (at) => momentText(at, context.zone, context.now()).slice(0, -3);
  const notes = [];
  if (panel.dataStart) {
    notes.push(`The data start at ${moment(panel.dataStart)}; nothing is known before.`);
  }
  if (shown.relaidAt) {
    notes.push(`The buckets change at ${moment(shown.relaidAt)}; no quantile can be told there.`);
  }
  if (shown.atLeast) {
    notes.push(`Reaches the top bucket: the true value may be above ${shown.atLeast}.`);
  }
  return notes.join(" ");
}

// What the server has put in the place of a character that cannot be seen.
const NUMBERED = /\\(u[0-9a-f]{4}|U[0-9a-f]{8})/;

// The name of a trace as text: Plotly is given it in its own HTML.
function plainName(name) {
  return name.replace(/&(lt|gt|amp);/g, (_, entity) => ({ lt: "<", gt: ">", amp: "&" })[entity]);
}

// The rows of the details: [name, text]. `page` knows when the next answer is due.
function chartDetails(panel, shown, context, page) {
  const moment = (at) => momentText(at, context.zone, context.now());
  const rows = [["State", `${STATE_WORDS[panel.state] || "fresh"}. ${STATE_SENTENCES[panel.state]}`]];
  if (panel.cause && panel.state !== "fresh") rows.push(["Cause", sentence(panel.cause)]);
  const kind = page.problem ? "dashboard_away" : panel.details.kind;
  if (kind) rows.push(["Kind", kind]);
  for (const text of panel.warnings) rows.push(["Said", text]);
  rows.push(["Data as of", panel.asOf
    ? `${moment(panel.asOf)}, ${durationText(context.now() - panel.asOf)} ago` : "none"]);
  if (page.lastSeen) rows.push(["Last answer", moment(page.lastSeen)]);
  rows.push(["Next try", page.next]);
  if (shown.details.query) rows.push(["Step", shown.stepWords]);
  const hiding = shown.figure.data.map(({ name }) => plainName(name)).filter((name) => NUMBERED.test(name));
  if (hiding.length) {
    rows.push(["Names", `${hiding.join(", ")}: \\u and a number stand for a character that cannot be seen, or would turn the text around it.`]);
  }
  rows.push(["Series", String(panel.details.series)]);
  if (panel.details.scrapes) rows.push(["Scraped", panel.details.scrapes]);
  rows.push(["Cache", LOOKUPS[panel.details.lookup] ?? panel.details.lookup]);
  if (page.version) rows.push(["Source", `version ${page.version}`]);
  if (shown.details.query) rows.push(["Query", shown.details.query]);
  return rows;
}

function fillDetails(list, rows) {
  const key = JSON.stringify(rows);
  if (list.shown === key) return;
  list.shown = key;
  list.replaceChildren(...rows.flatMap(([name, text]) => {
    const term = document.createElement("dt");
    const value = document.createElement("dd");
    term.textContent = name;
    value.textContent = text;
    if (name === "Query" || name === "Kind") value.className = "qs-code";
    return [term, value];
  }));
}
