// What is going on now: the verdict, the cards and the alerts above the charts.

const DIRECTION_SIGNS = { up: "▲", down: "▼", same: "", none: "" };

class Standing {
  // `page` tells the base address, the reader's zone and the server's clock, and shows a refusal.
  constructor(root, page) {
    this.find = (name) => root.querySelector(`[data-qs="${name}"]`);
    this.page = page;
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
    for (const card of this.cards) {
      this.showCard(card, this.content?.kpis.find((one) => one.id === card.dataset.kpi));
    }
  }

  // Texts and instants; an instant is written in the reader's zone.
  words(reason) {
    return reason.map((part) => (typeof part === "string" ? part : this.page.moment(part.at))).join("");
  }

  showVerdict() {
    const verdict = this.content?.verdict;
    const known = verdict && !this.problem;
    this.find("verdict").dataset.health = known ? verdict.state : "unknown";
    this.find("health").textContent = known ? `${verdict.words}:` : "Unknown:";
    this.find("reason").textContent = known ? `${this.words(verdict.reason)}.` : this.problem;
    const findings = this.find("findings");
    const more = known ? verdict.findings.slice(1) : [];
    findings.hidden = !more.length;
    findings.querySelector("summary").textContent = `and ${more.length} more`;
    fill(findings.querySelector("ul"), more.map((finding) => {
      const state = document.createElement("strong");
      state.textContent = `${finding.state}: `;
      const item = document.createElement("li");
      item.append(state, `${this.words(finding.reason)}.`);
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
      const link = document.createElement("button");
      link.type = "button";
      link.className = "qs-button qs-plain";
      link.textContent = "Show its chart";
      link.addEventListener("click", () => {
        this.find("alerts").open = false;
        this.page.reveal(alert.panel);
      });
      item.append(link);
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
    part(".qs-figure strong").textContent = kpi ? kpi.words : "–";
    part(".qs-figure span").textContent = kpi?.words === "–" ? "" : kpi?.unit ?? "";
    const badge = part(".qs-badge");
    const old = state === "stale" && kpi?.asOf ? `, ${durationText(Math.max(0, this.page.now() - kpi.asOf))} old` : "";
    badge.textContent = STATE_WORDS[state] ? STATE_WORDS[state] + old : card.dataset.level === "none" ? "" : kpi.levelWords;
    badge.hidden = !badge.textContent;
    const cause = this.problem || kpi?.cause || "";
    card.title = cause ? sentence(cause) : "";
    this.showChanges(part(".qs-changes"), kpi, state, cause);
    this.showSpark(card, kpi);
  }

  showChanges(line, kpi, state, cause) {
    if (!kpi?.changes.length || ["empty", "idle", "unavailable"].includes(state)) {
      line.textContent = cause ? sentence(cause) : "";
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
    const drain = kpi.id === "queue_depth" ? this.content.drain : null;
    if (drain && state === "fresh") {
      const item = document.createElement("span");
      item.className = "qs-drain";
      item.dataset.drain = drain.state;
      item.textContent = drain.words;
      line.prepend(item);
    }
  }

  showSpark(card, kpi) {
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

function textItem(text) {
  const item = document.createElement("li");
  item.textContent = text;
  return item;
}

function floatsOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}
