// What is going on now: the verdict, the cards and the alerts above the charts.

const DIRECTION_SIGNS = { up: "▲", down: "▼", same: "", none: "" };

// Where to go on from a card: page and words.
const WAYS = {
  queue_depth: [["operations", "Operations"]],
  success_rate: [["jobs", "Jobs"]],
  active_workers: [["workers", "Workers"]],
  throughput: [["workers", "Workers"]],
  oldest_waiting: [["operations", "Operations"]],
};

class Standing {
  // `page` tells the base address, the reader's zone and the server's clock, and shows a refusal.
  constructor(root, page) {
    this.find = (name) => root.querySelector(`[data-qs="${name}"]`);
    this.page = page;
    const failures = this.find("failures");
    this.failures = failures && new Failures(failures, page);
    this.cards = [...root.querySelectorAll("[data-kpi]")];
    this.content = null;
    this.root = root;
    root.addEventListener("click", (event) => {
      for (const open of root.querySelectorAll(".qs-pop[open]")) {
        if (!open.contains(event.target)) open.open = false;
      }
    });
    root.addEventListener("keydown", (event) => {
      const open = event.key === "Escape" && root.querySelector(".qs-pop[open]");
      if (open) {
        open.open = false;
        open.querySelector("summary").focus();
      }
    });
  }

  async load(maxAge) {
    if (!this.cards.length) return;
    this.pending?.abort();
    const pending = new AbortController();
    this.pending = pending;
    try {
      const response = await fetch(`${this.page.base()}/queuescope/standing?age=${maxAge}`, {
        signal: AbortSignal.any([pending.signal, AbortSignal.timeout(ANSWER_SECONDS * 1000)]),
        headers: { accept: "application/json" },
        redirect: "manual",
      });
      const refusal = await refusalOf(response);
      if (refusal) return this.page.refuse(refusal);
      if (!response.ok) throw new Error(`status ${response.status}`);
      this.content = await response.json();
      this.problem = "";
    } catch {
      if (this.pending !== pending) return;
      this.problem = "The Queuescope server does not answer.";
    }
    this.show();
  }

  show() {
    if (!this.content && !this.problem) return;
    this.showVerdict();
    this.showAlerts();
    this.showSources();
    for (const card of this.cards) {
      this.showCard(card, this.content?.kpis.find((one) => one.id === card.dataset.kpi));
    }
    this.failures?.show(this.content?.failures, this.problem);
    this.page.told(this.content, this.problem);
  }

  // Texts and instants; an instant is written in the reader's zone.
  words(reason, moment = this.page.moment) {
    return reason.map((part) => (typeof part === "string" ? part : moment(part.at))).join("");
  }

  // The rules look at a quarter of an hour: its seconds would say more than is known.
  because(finding) {
    return `${this.words(finding.reason, (at) => this.page.moment(at).slice(0, -3))}.`;
  }

  age(at) {
    return ageText(this.page.now() - at);
  }

  showVerdict() {
    const verdict = this.content?.verdict;
    const known = verdict && !this.problem;
    this.find("verdict").dataset.health = known ? verdict.state : "unknown";
    this.find("health").textContent = known ? `${verdict.words}:` : "Unknown:";
    this.find("reason").textContent = known ? this.because(verdict) : this.problem;
    const drain = this.content?.drain;
    const outlook = this.find("outlook");
    outlook.dataset.drain = known && drain ? drain.state : "unknown";
    outlook.textContent = known && drain ? drain.words : "";
    // As many lines as the reason leaves of the box, which keeps its size.
    outlook.hidden = false;
    const said = outlook.parentElement;
    const lines = Math.floor((said.clientHeight - said.firstElementChild.offsetHeight) / parseFloat(getComputedStyle(outlook).lineHeight));
    outlook.hidden = lines < 1;
    outlook.style.webkitLineClamp = String(Math.max(1, lines));
    const findings = this.find("findings");
    const more = known ? verdict.findings.slice(1) : [];
    findings.hidden = !more.length;
    findings.querySelector("summary").textContent = `and ${more.length} more`;
    fill(findings.querySelector("ul"), more.map((finding) => {
      const state = document.createElement("strong");
      state.textContent = `${finding.state}: `;
      const item = document.createElement("li");
      item.append(state, this.because(finding));
      return item;
    }));
  }

  showAlerts() {
    const box = this.find("alerts");
    const { alerts = [], alertsState = "unavailable", alertsMore = 0, alertsCause = "" } = this.content ?? {};
    const firing = alerts.filter((alert) => alert.state === "firing").length;
    const pending = alerts.length - firing;
    const old = alertsState === "stale" || this.problem;
    box.hidden = alertsState === "idle" && !this.problem;
    box.dataset.tone = firing ? "bad" : "note";
    const parts = [];
    if (alertsState === "unavailable") parts.push("alerts not known");
    else {
      if (firing) parts.push(`${firing} ${firing === 1 ? "alert" : "alerts"} firing`);
      if (pending) parts.push(`${pending} pending`);
      if (!parts.length) parts.push("no alerts");
      if (old) parts.push(`as of ${this.page.moment(this.content.alertsAsOf)}`);
    }
    box.querySelector("summary").textContent = parts.join(", ");
    const items = alerts.map((alert) => this.alertItem(alert));
    if (alertsMore) items.push(textItem(`and ${alertsMore} more in Prometheus`));
    if (alertsCause) items.push(textItem(sentence(alertsCause)));
    fill(box.querySelector("ul"), items);
  }

  // What the page rests on; each source fails by itself.
  showSources() {
    const box = this.find("sources");
    const sources = this.content?.sources ?? [];
    const away = sources.filter((source) => this.problem || source.state !== "fresh");
    box.hidden = !sources.length;
    box.dataset.tone = away.length ? "bad" : "note";
    const count = (number) => `${number} ${number === 1 ? "source" : "sources"}`;
    box.querySelector("summary").textContent = away.length
      ? `${count(away.length)} away` : count(sources.length);
    fill(box.querySelector("ul"), sources.map((source) => this.sourceItem(source)));
  }

  sourceItem(source) {
    const item = document.createElement("li");
    const state = this.problem ? "not known" : source.state;
    item.dataset.source = source.id;
    item.dataset.state = state;
    const name = document.createElement("strong");
    name.textContent = `${source.title}: ${state}`;
    const said = [];
    if (this.problem) said.push(this.problem);
    else if (source.state !== "fresh") {
      const since = source.since ? `, since ${this.page.moment(source.since)}` : "";
      said.push(sentence(`${capital(source.cause)}${since}`));
    }
    if (source.asOf) {
      const old = source.state === "fresh" && !this.problem ? "" : `, ${this.age(source.asOf)} old`;
      said.push(`As of ${this.page.moment(source.asOf)}${old}.`);
    }
    if (source.kind && source.state !== "fresh") said.push(`Kind: ${source.kind}.`);
    if (source.tells.length) said.push(`It tells ${source.tells.join(", ")}.`);
    item.append(name, ...said.map((text) => {
      const line = document.createElement("span");
      line.className = "qs-muted";
      line.textContent = text;
      return line;
    }));
    return item;
  }

  alertItem(alert) {
    const item = document.createElement("li");
    const name = document.createElement("strong");
    name.textContent = alert.summary || alert.name;
    const rest = document.createElement("span");
    rest.className = "qs-muted";
    rest.textContent = [
      alert.summary ? alert.name : "", alert.state, alert.severity,
      alert.since ? `since ${this.page.moment(alert.since)}` : "",
      ...Object.entries(alert.labels).map(([label, value]) => `${label}=${value}`),
    ].filter(Boolean).join(" · ");
    item.append(name, rest);
    if (alert.panel) {
      item.append(this.chartButton(alert.panel, () => { this.find("alerts").open = false; }));
    }
    return item;
  }

  showCard(card, kpi) {
    card.removeAttribute("aria-busy");
    const state = this.problem ? (kpi ? "stale" : "unavailable") : kpi?.state ?? "unavailable";
    card.dataset.state = state;
    card.dataset.level = state === "fresh" || state === "partial" ? kpi.level : "none";
    if (kpi?.asOf) card.dataset.asOf = new Date(kpi.asOf * 1000).toISOString();
    const part = (name) => card.querySelector(name);
    const figure = part(".qs-figure strong");
    figure.textContent = kpi ? kpi.words : "–";
    // “4 min 18 s” leaves room for the sign beside it.
    figure.toggleAttribute("data-long", figure.textContent.length > 7);
    part(".qs-figure span").textContent = kpi?.words === "–" ? "" : kpi?.unit ?? "";
    const badge = part(".qs-badge");
    const level = card.dataset.level === "none" ? "" : kpi.levelWords;
    // Beyond its limit is more than second best.
    const instead = state === "partial" && kpi.instead ? level || kpi.instead : "";
    badge.textContent = instead || STATE_WORDS[state] || level;
    badge.hidden = !badge.textContent;
    const cause = this.problem || kpi?.cause || "";
    card.title = cause ? sentence(capital(cause)) : "";
    if (kpi) {
      const isLive = kpi.origin !== "prometheus" && state === "fresh";
      card.dataset.origin = kpi.origin;
      part(".qs-note").textContent = kpi.note || (isLive ? "live" : "");
      part(".qs-note").toggleAttribute("data-live", isLive && !kpi.note);
      part(".qs-note").toggleAttribute("data-late", Boolean(kpi.late));
    }
    this.showAbout(card, kpi);
    this.showChanges(part(".qs-changes"), kpi, state, cause);
    this.showSpark(card, kpi);
  }

  // Where a figure is from and as of when, and the ways on from it.
  showAbout(card, kpi) {
    const list = card.querySelector(".qs-from ul");
    const said = this.problem ? [this.problem] : (kpi?.details ?? []).map((reason) => this.words(reason));
    // What can be pressed stays the same element: it may have the focus.
    const ways = list.querySelector("li.qs-ways") ?? this.ways(card, kpi);
    while (list.firstElementChild && list.firstElementChild !== ways) list.firstElementChild.remove();
    list.prepend(...said.map((text) => textItem(text)));
    if (ways && !ways.isConnected) list.append(ways);
  }

  ways(card, kpi) {
    const ways = document.createElement("li");
    ways.className = "qs-ways";
    if (kpi?.panel) ways.append(this.chartButton(kpi.panel, () => { card.querySelector(".qs-from").open = false; }));
    for (const [path, words] of WAYS[card.dataset.kpi] ?? []) {
      ways.append(linkElement(`${this.page.base()}/${path}`, words));
    }
    return ways.childElementCount ? ways : null;
  }

  chartButton(panel, before) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "qs-button qs-plain";
    button.textContent = "Show its chart";
    button.addEventListener("click", () => {
      before();
      this.page.reveal(panel);
    });
    return button;
  }

  showChanges(line, kpi, state, cause) {
    const why = document.createElement("span");
    why.className = "qs-why";
    why.textContent = cause ? sentence(capital(cause)) : "";
    const beside = document.createElement("span");
    beside.className = "qs-beside";
    beside.textContent = kpi?.beside && state !== "stale" ? kpi.beside : "";
    if (!kpi || ["empty", "idle", "unavailable"].includes(state)) {
      line.replaceChildren(...(beside.textContent ? [beside] : []), why);
      return;
    }
    fill(line, kpi.changes.map((change) => {
      const item = document.createElement("span");
      const words = document.createElement("b");
      words.dataset.tone = change.tone;
      words.textContent = [DIRECTION_SIGNS[change.direction], change.words].filter(Boolean).join(" ");
      item.append(words, change.direction === "none" ? ` of ${change.against}` : ` ${change.direction === "same" ? "as" : "on"} ${change.against}`);
      return item;
    }));
    if (!kpi.changes.length && cause) line.append(why);
    const first = document.createElement("span");
    const drain = kpi.id === "queue_depth" ? this.content.drain : null;
    if (state === "stale" && kpi.asOf) {
      first.className = "qs-old";
      first.textContent = `${this.age(kpi.asOf)} old, of ${this.page.moment(kpi.asOf)}`;
    } else if (drain?.brief && ["fresh", "partial"].includes(state)) {
      first.className = "qs-drain";
      first.dataset.drain = drain.state;
      first.textContent = drain.brief;
      first.title = drain.words;
    }
    if (first.textContent) line.prepend(first);
    else if (beside.textContent) line.prepend(beside);
  }

  showSpark(card, kpi) {
    card.querySelector(".qs-spark").dataset.state = kpi?.spark?.state ?? "";
    const values = kpi?.spark ? [...floatsOf(kpi.spark.values)] : [];
    const finite = values.filter(Number.isFinite);
    const top = Math.max(...finite), bottom = Math.min(0, ...finite);
    const x = (i) => ((i / Math.max(1, values.length - 1)) * 100).toFixed(2);
    const y = (value) => (top > bottom ? 27 - ((value - bottom) / (top - bottom)) * 26 : 27).toFixed(2);
    let line = "", area = "", run = [];
    const close = () => {
      if (run.length) {
        const points = run.map(([i, value]) => `${x(i)} ${y(value)}`);
        // A lone point between gaps is a short dash, not nothing.
        line += `M${points.join("L")}${run.length === 1 ? "h0.8" : ""}`;
        area += `M${x(run[0][0])} 28L${points.join("L")}L${x(run.at(-1)[0])} 28Z`;
      }
      run = [];
    };
    values.forEach((value, i) => (Number.isFinite(value) ? run.push([i, value]) : close()));
    close();
    card.querySelector(".qs-spark-line").setAttribute("d", line);
    card.querySelector(".qs-spark-area").setAttribute("d", area);
  }
}

function fill(list, items) {
  list.replaceChildren(...items);
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function linkElement(path, words) {
  const link = document.createElement("a");
  link.className = "qs-button qs-way";
  link.href = path;
  link.textContent = words;
  return link;
}

function textItem(text) {
  const item = document.createElement("li");
  item.textContent = text;
  return item;
}

function floatsOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}
