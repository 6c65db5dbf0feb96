// Performance Trends: the controls, the refresh clock and the charts of one page.

const RETRY_SECONDS = 10;
const ANSWER_SECONDS = 20;
// Tells this page from others that look at the same, so that viewers can be counted.
const PAGE = Math.random().toString(36).slice(2, 14);
const SPREAD_SECONDS = 0.5;
const CLOCK_TOLERANCE_SECONDS = 5;
const FUTURE_SECONDS = 60;
const FLOW_KEPT_SECONDS = 300;
const MAX_FLOWS = 16;

class Trends {
  constructor(root) {
    this.root = root;
    this.find = (name) => root.querySelector(`[data-qs="${name}"]`);
    this.defaults = JSON.parse(root.dataset.defaults);
    this.base = this.defaults.base;
    this.axes = 0;
    this.takeAddress(askedAddress());
    this.answers = new Map();
    this.flows = new Map();
    this.payload = null;
    this.fine = null;
    this.problem = "";
    this.triedAt = null;
    this.failingSince = null;
    this.deviceAhead = 0;
    this.charts = [...root.querySelectorAll("[data-panel]")].map((element) => new Chart(element, this.defaults.layout, {
      onZoom: (window) => this.zoomed(window),
      onReset: () => this.unzoom(),
      onHover: (source, at) => this.pointed(source, at),
      onUnhover: (source) => this.pointed(source, null),
      onScale: (scale) => this.chooseScale(scale),
      onRefused: (refusal) => this.refuse(refusal),
    }));
    this.standing = new Standing(root, {
      base: () => this.base,
      now: () => (this.payload ? this.serverNow() + this.payload.source.offset : Date.now() / 1000),
      moment: (at) => momentText(at, this.state.zone, this.payload ? this.serverNow() : at),
      reveal: (panel) => this.reveal(panel),
      told: (standing, problem) => {
        this.mark(standing);
        this.showLive(problem ? [] : standing?.kpis ?? []);
      },
      refuse: (refusal) => this.refuse(refusal),
    });
    this.isPrinting = false;
    this.applyTheme();
    this.listen();
    followPrinting((where) => this.print(where));
    this.showControls();
    this.running = false;
    // The server renews a view for all who look at it; they must not all ask at once then.
    this.phase = Math.random() * SPREAD_SECONDS;
  }

  // ---- life

  // The state is what the address says.
  takeAddress(asked = null) {
    const { state, zoom, remarks } = readAddress(this.defaults, asked);
    this.state = state;
    this.zoom = zoom;
    this.fine = null;
    this.remarks = remarks;
    this.search = location.search;
  }

  // `isStep`: the reader finds the way back to what was drawn before.
  write(isStep = false) {
    writeAddress(this.state, this.zoom, isStep);
    this.search = location.search;
  }

  // The page stands at this address now, be it opened, or come back to from another page.
  enter() {
    this.home = location.pathname;
    if (location.search !== this.search && !isBareAddress()) this.follow();
    if (!isWrittenAs(this.state, this.zoom)) this.write();
  }

  // Resolves once the first answer, where one has to be asked for, has been taken in.
  async start(first) {
    if (this.running || this.refusal) return;
    this.running = true;
    this.clock = setInterval(() => this.tick(), 1000);
    if (first) {
      this.receive(this.key(), first);
      if (this.zoom) this.loadFine();
      this.standing.load(this.maxAge());
    }
    else if (this.payload) this.wake();
    else await this.load();
  }

  stop() {
    this.running = false;
    clearInterval(this.clock);
    clearTimeout(this.timer);
  }

  wake() {
    if (!this.running || document.hidden) return;
    if (this.dueAt !== null && performance.now() >= (this.dueAt ?? 0)) this.load({ quiet: true });
    else this.schedule();
  }

  tick() {
    this.applyTheme();
    this.showStatus();
    for (const chart of this.charts) chart.showState();
  }

  // ---- data

  key() {
    return viewQuery(this.state, null).toString();
  }

  // `quiet` keeps what is on screen as it is until the answer is there.
  async load({ quiet = false, now = false } = {}) {
    clearTimeout(this.timer);
    this.pending?.abort();
    const pending = new AbortController();
    this.pending = pending;
    const key = this.key();
    if (!quiet) this.busy(true);
    this.find("refresh-now").classList.toggle("qs-turning", now);
    this.dueAt = null;
    this.showStatus();
    this.standing.load(now ? 1 : this.maxAge());
    try {
      // The interval lets the server have the next answer ready when it is asked for.
      const query = `${key}&refresh=${this.state.refresh || "off"}`;
      const answer = await this.ask(query, pending.signal, now ? 1 : this.maxAge());
      if (this.pending !== pending) return;
      this.receive(key, answer);
      if (this.zoom) this.loadFine({ now });
    } catch (error) {
      if (pending.signal.aborted && this.pending !== pending) return;
      if (error.refusal) this.refuse(error.refusal);
      else this.fail(key, error.words);
    } finally {
      if (this.pending === pending) {
        this.pending = null;
        this.find("refresh-now").classList.remove("qs-turning");
        this.showStatus();
      }
    }
  }

  async ask(query, signal, maxAge) {
    const limit = AbortSignal.timeout(ANSWER_SECONDS * 1000);
    const response = await fetch(`${this.base}/queuescope/view?${query}&age=${maxAge}&page=${PAGE}`, {
      signal: AbortSignal.any([signal, limit]), headers: { accept: "application/json" },
      // A proxy before us may send who has to log in to another page.
      redirect: "manual",
    });
    const refusal = await refusalOf(response);
    if (refusal) throw Object.assign(new Error(refusal.words), { refusal });
    if (!response.headers.get("content-type")?.includes("application/json")) {
      throw new Error("not an answer of Queuescope");
    }
    const answer = await response.json();
    if (!response.ok) throw Object.assign(new Error(answer.error), { words: answer.error });
    answer.query = query;
    // The answer is shared and may have been made a while ago.
    answer.serverNow = Number(response.headers.get("queuescope-now")) || answer.takenAt;
    this.deviceAhead = Date.now() / 1000 - answer.serverNow;
    return answer;
  }

  // Who may not look any more keeps nothing of it on screen.
  refuse(refusal) {
    if (this.refusal) return;
    this.stop();
    for (const chart of this.charts) Plotly.purge(chart.plot);
    this.payload = null;
    this.answers.clear();
    this.refusal = refusalPage(refusal, `${this.base}/queuescope/view?${this.key()}&age=600`);
    this.root.replaceWith(this.refusal);
    document.getElementById("queuescope-snapshot")?.remove();
  }

  // No answer from our own server. What is drawn must not pass for what was asked for.
  fail(key, words) {
    this.busy(false);
    // A refusal in words is an answer.
    if (words) this.failingSince = null;
    else if (this.payload) this.failingSince ??= this.serverNow();
    this.problem = words || "The Queuescope server does not answer.";
    if (this.payload) {
      this.triedAt = this.serverNow();
      const kept = this.payloadKey === key ? this.payload : this.answers.get(key);
      this.payload = kept ?? emptied(this.payload, sentence(this.problem));
      this.payloadKey = key;
      for (const panel of this.payload.panels) {
        panel.state = panel.asOf ? "stale" : "unavailable";
        panel.cause = sentence(this.problem);
      }
      this.draw();
    } else {
      for (const chart of this.charts) chart.fail(sentence(this.problem));
      this.showBanner();
    }
    this.schedule(RETRY_SECONDS);
  }

  maxAge() {
    return this.state.refresh || 60;
  }

  receive(key, answer) {
    answer.receivedAt = performance.now();
    // What came with the page was asked for by its address.
    answer.query ??= key;
    this.answers.set(key, answer);
    this.payload = answer;
    this.payloadKey = key;
    this.problem = "";
    this.failingSince = null;
    this.triedAt = null;
    this.busy(false);
    this.draw();
    this.schedule();
  }

  async loadFine({ now = false } = {}) {
    const zoom = this.zoom;
    const span = zoom[1] - zoom[0];
    // Half a window on each side, so that a short pan finds its points.
    const window = [zoom[0] - span / 2, zoom[1] + span / 2];
    this.pendingFine?.abort();
    const pending = new AbortController();
    this.pendingFine = pending;
    this.find("zoom").classList.add("qs-loading");
    try {
      const query = viewQuery(this.state, window).toString();
      const answer = await this.ask(query, pending.signal, now ? 1 : this.maxAge());
      if (this.pendingFine !== pending || !this.zoom) return;
      this.fine = answer.view.step < this.payload.view.step ? answer : null;
      this.draw();
    } catch (error) {
      if (error.refusal) this.refuse(error.refusal);
      // The coarser points stay; the next refresh tries again.
      else if (!pending.signal.aborted) console.warn("no finer points:", error);
    } finally {
      if (this.pendingFine === pending) {
        this.pendingFine = null;
        this.find("zoom").classList.remove("qs-loading");
      }
    }
  }

  // How arrival went against completion in what is drawn: asked for after the charts are there,
  // and again when a step has passed.
  async loadFlows() {
    await this.drawn();
    const wanted = this.state.by === "none" ? [this.payload, this.fine].filter(Boolean) : [];
    const keys = wanted.map(({ view }) => `${view.from} ${view.to} ${view.step}`);
    this.wantedFlows = keys.join();
    const flows = await Promise.all(wanted.map((answer, n) => this.flow(keys[n], answer)));
    if (this.wantedFlows !== keys.join()) return;
    const shown = flows.map((flow) => flow?.decoded ?? null);
    if (shown.every((flow, n) => flow === this.shownFlows?.[n]) && shown.length === this.shownFlows?.length) return;
    this.shownFlows = shown;
    for (const chart of this.charts) chart.showFlows(shown);
  }

  async flow(key, answer) {
    const kept = this.flows.get(key);
    const isYoung = kept && performance.now() - kept.at < FLOW_KEPT_SECONDS * 1000;
    if (isYoung && ["fresh", "empty"].includes(kept.state)) return kept;
    try {
      const response = await fetch(`${this.base}/queuescope/flow?${answer.query}`, {
        signal: AbortSignal.timeout(ANSWER_SECONDS * 1000), headers: { accept: "application/json" },
      });
      if (!response.ok) return kept;
      const found = await response.json();
      const flow = { state: found.state, at: performance.now(), decoded: decodeFlow(found) };
      this.flows.delete(key);
      this.flows.set(key, flow);
      if (this.flows.size > MAX_FLOWS) this.flows.delete(this.flows.keys().next().value);
      return flow;
    } catch {
      // The chart stands without; the next refresh asks again.
      return kept;
    }
  }

  schedule(seconds) {
    clearTimeout(this.timer);
    this.dueAt = null;
    // Without our own server the page is of no use: it looks for it even with refresh off.
    if (!this.running || !(this.state.refresh || this.problem)) return this.showStatus();
    let delay = seconds;
    if (delay === undefined) {
      const age = this.payload ? this.serverNow() - this.payload.takenAt : 0;
      delay = this.healthy()
        ? Math.max(1, this.state.refresh - Math.max(0, age)) + this.phase
        : Math.min(RETRY_SECONDS, this.state.refresh);
    }
    this.dueAt = performance.now() + delay * 1000;
    // A hidden tab asks for nothing; it looks at the clock when it is seen again.
    if (!document.hidden) {
      this.timer = setTimeout(() => this.load({ quiet: true }), delay * 1000);
    }
    return this.showStatus();
  }

  healthy() {
    return !this.problem && this.payload?.source.reachable
      && this.payload.panels.every((panel) => !["stale", "unavailable"].includes(panel.state));
  }

  // The server's clock, counted on from its last answer: the reader's may be wrong.
  serverNow() {
    const { serverNow, receivedAt } = this.payload;
    return serverNow + (performance.now() - receivedAt) / 1000;
  }

  // ---- drawing

  draw() {
    const { payload, fine } = this;
    const view = payload.view;
    this.offset = offsetSeconds(this.state.zone, view.to);
    const context = {
      view, zone: this.state.zone, offset: this.offset, zoom: this.zoom, axes: this.axes,
      isLog: this.state.scale === "log", base: this.base,
      isUnmeasured: Boolean(this.unmeasured()),
      answer: (panel) => (fine?.panels.includes(panel) ? fine : payload),
      now: () => this.serverNow() + payload.source.offset,
      stepWords: (panel) => (fine?.panels.includes(panel) ? fine : payload).view.stepWords,
      page: () => ({
        problem: this.problem,
        next: this.nextWords(),
        lastSeen: payload.source.lastSeen && payload.source.lastSeen + payload.source.offset,
        version: payload.source.version,
      }),
    };
    for (const chart of this.charts) {
      const id = chart.element.dataset.panel;
      const panel = payload.panels.find((one) => one.id === id);
      chart.element.hidden = !panel;
      if (!panel) continue;
      chart.show(panel, fine?.panels.find((one) => one.id === id), context);
    }
    this.find("unmeasured").hidden = !context.isUnmeasured;
    this.find("unmeasured-words").textContent = this.unmeasured();
    this.showControls();
    this.mark(this.standingTold);
    this.showBanner();
    this.showStatus();
    this.loadFlows();
  }

  // What the source lacks that never had a metric of any chart; while it answers.
  unmeasured() {
    return this.problem ? "" : this.payload.source.unmeasured;
  }

  // Resolves when what was shown last stands in all charts.
  drawn() {
    return Promise.all(this.charts.map((chart) => chart.drawn));
  }

  busy(on) {
    this.root.classList.toggle("qs-busy", on);
    for (const chart of this.charts) chart.busy(on);
  }

  zoomed([from, to]) {
    if (!(to - from >= 1)) return;
    this.zoom = [from, to];
    for (const chart of this.charts) chart.zoomTo(this.zoom);
    this.showControls();
    clearTimeout(this.zoomTimer);
    this.zoomTimer = setTimeout(() => {
      if (!this.zoom) return;
      this.write(true);
      this.loadFine();
    }, 250);
  }

  unzoom() {
    if (this.zoom) {
      this.zoom = null;
      this.fine = null;
      this.pendingFine?.abort();
      clearTimeout(this.zoomTimer);
      this.write(true);
    }
    for (const chart of this.charts) chart.reset();
    if (this.payload) this.draw();
  }

  pointed(source, at) {
    for (const chart of this.charts) {
      if (chart === source) chart.point(at);
      else chart.echo(at);
    }
  }

  // Operators' acts on all charts, and each alert on its own where it began.
  mark(standing) {
    const moment = (at) => momentText(at, this.state.zone, this.payload ? this.serverNow() : at);
    const acts = (standing?.acts?.list ?? []).map((act) => ({
      at: act.at, kind: "act", words: actWords(act, moment(act.at)),
    }));
    this.standingTold = standing;
    const active = (standing?.alerts ?? []).filter((alert) => alert.since);
    const recorded = this.payload?.alerts?.list ?? [];
    // The list of the active ones is the newer one, and knows their texts.
    const told = new Set(active.flatMap((alert) => recordsOf(alert, recorded)));
    const over = recorded.filter((alert) => !told.has(alert));
    const more = this.payload?.alerts?.more ?? 0;
    const note = [
      actsNote(standing?.acts, moment),
      more ? `${more} earlier ${more === 1 ? "alert is" : "alerts are"} not drawn.` : "",
    ].filter(Boolean).join(" ");
    for (const chart of this.charts) {
      const alerts = [...active, ...over]
        .filter((alert) => alert.panel === chart.element.dataset.panel)
        .map((alert, _, all) => ({
          at: alert.since, until: alert.until ?? null, kind: "alert", state: alert.state,
          words: alert.until
            ? pastAlertWords(alert, moment(alert.since), moment(alert.until), all)
            : alertWords(alert, moment(alert.since), all),
        }));
      chart.showMarks([...acts, ...alerts].sort((a, b) => a.at - b.at), note);
    }
  }

  // What a card says of what a chart shows stands on the chart, too.
  showLive(kpis) {
    for (const chart of this.charts) {
      const kpi = kpis.find((one) => one.panel === chart.element.dataset.panel);
      chart.showLive(kpi && ["fresh", "partial"].includes(kpi.state) ? kpi : null);
    }
  }

  reveal(panel) {
    const { element } = this.charts.find((chart) => chart.element.dataset.panel === panel);
    element.scrollIntoView({ block: "center", behavior: "smooth" });
    element.tabIndex = -1;
    element.focus({ preventScroll: true });
  }

  // ---- words

  showStatus() {
    const line = this.find("status");
    const dot = this.find("dot");
    const next = this.nextWords();
    if (!this.payload) {
      dot.dataset.tone = this.problem ? "bad" : "wait";
      line.textContent = this.problem ? next : "Asking Prometheus…";
      return;
    }
    dot.dataset.tone = this.healthy() ? "good" : "bad";
    const at = momentText(this.triedAt ?? this.payload.takenAt, this.state.zone, this.serverNow());
    line.textContent = this.healthy() ? `updated ${at}, ${next}` : `tried ${at}, ${next}`;
    this.countBanner();
  }

  nextWords() {
    if (this.pending) return "asking now";
    if (!this.state.refresh && !this.problem) return "refresh is off";
    if (document.hidden) return "paused";
    const left = this.dueAt === null ? 0 : (this.dueAt - performance.now()) / 1000;
    return `next in ${durationText(Math.max(0, left))}`;
  }

  showBanner() {
    const banner = this.find("banner");
    const source = this.payload?.source;
    let tone = "";
    this.bannerParts = null;
    if (this.problem) {
      tone = "bad";
      const since = this.failingSince;
      const text = sentence(this.problem) + (since
        ? ` Disconnected since ${momentText(since, this.state.zone, this.serverNow())}.` : "");
      this.bannerParts = { text, asOf: this.newest() };
    } else if (source && !source.reachable) {
      tone = "bad";
      const since = source.lastSeen ?? null;
      const zone = this.state.zone;
      this.bannerParts = {
        text: sentence(source.cause)
          + (since ? ` Last answer at ${momentText(since, zone, this.serverNow())}.` : ""),
        asOf: this.newest(),
        help: this.newest() === null
          ? "Check that Prometheus runs and that PROMETHEUS_URL names it. The page fills by itself once it answers."
          : "",
      };
    } else if (this.payload?.panels.some((panel) => panel.state === "stale")) {
      tone = "bad";
      const names = this.payload.panels.filter((panel) => panel.state === "stale");
      this.bannerParts = {
        text: `${names.map((panel) => panel.title).join(", ")}: ${sentence(names[0].cause)}`,
        asOf: Math.min(...names.map((panel) => panel.asOf)),
      };
    } else if (this.payload && this.notices()) {
      tone = "note";
      this.bannerParts = { text: this.notices() };
    }
    banner.hidden = !this.bannerParts;
    banner.dataset.tone = tone;
    this.countBanner();
  }

  countBanner() {
    const parts = this.bannerParts;
    if (!parts) return;
    const words = [parts.text];
    if (parts.asOf) {
      const now = this.serverNow() + this.payload.source.offset;
      words.push(
        `The charts show the data of ${momentText(parts.asOf, this.state.zone, now)},`
        + ` ${durationText(now - parts.asOf)} old.`,
      );
    }
    if (parts.help) words.push(parts.help);
    if (parts.asOf !== undefined) words.push(...this.remarks);
    const text = this.find("banner-text");
    const joined = words.join(" ");
    if (text.textContent !== joined) text.textContent = joined;
  }

  // What a reader should know although nothing is wrong with the data.
  notices() {
    const notices = [...this.remarks, this.payload.source.notice];
    const { custom } = this.state;
    if (custom && custom[1] > this.serverNow() + this.payload.source.offset + FUTURE_SECONDS) {
      notices.push("The range ends in the future: it is drawn until now, and goes on.");
    }
    const ahead = this.deviceAhead;
    // One that agrees with Prometheus is right, and the notice tells of the server's.
    const apart = Math.min(Math.abs(ahead), Math.abs(ahead - this.payload.source.offset));
    if (apart > CLOCK_TOLERANCE_SECONDS) {
      notices.push(
        `The clock of this device is ${durationText(Math.abs(ahead))} ${ahead > 0 ? "ahead of" : "behind"}`
        + " the server's. All times here are the server's.",
      );
    }
    if (this.zoneChanges()) {
      notices.push(`The clocks change within this range; all times are ${offsetWords(this.offset)}.`);
    }
    return notices.filter(Boolean).join(" ");
  }

  newest() {
    const times = (this.payload?.panels ?? []).map((panel) => panel.asOf).filter(Boolean);
    return times.length ? Math.max(...times) : null;
  }

  zoneChanges() {
    const { from, to } = this.payload.view;
    return offsetSeconds(this.state.zone, from) !== offsetSeconds(this.state.zone, to);
  }

  showControls() {
    const { state } = this;
    for (const button of this.root.querySelectorAll("[data-range]")) {
      const isCustom = state.custom || !RANGES.includes(state.range);
      const on = button.dataset.range === (isCustom ? "custom" : state.range);
      // A range that has no button of its own stands on the last one.
      if (button.dataset.range === "custom") {
        const other = state.custom || RANGES.includes(state.range) ? "" : state.range;
        button.textContent = other ? `Custom: ${other}` : "Custom";
      }
      button.setAttribute("aria-checked", String(on));
      button.tabIndex = on ? 0 : -1;
    }
    this.find("refresh").value = String(state.refresh);
    this.find("by").value = state.by;
    const zone = this.find("zone");
    zone.value = state.zone === "UTC" ? "UTC" : "local";
    const zoom = this.find("zoom");
    zoom.hidden = !this.zoom;
    if (this.zoom && this.payload) {
      const [from, to] = this.zoom.map((at) => momentText(at, state.zone, this.serverNow()));
      const step = (this.fine ?? this.payload).view.stepWords;
      this.find("zoom-text").textContent = `${from} to ${to}, a point every ${step}`;
    }
  }

  // ---- what the reader does

  change(part) {
    Object.assign(this.state, part);
    this.write();
    this.showControls();
  }

  chooseView(part) {
    Object.assign(this.state, part);
    this.zoom = null;
    this.fine = null;
    this.remarks = [];
    this.write(true);
    this.showView();
  }

  chooseScale(scale) {
    this.axes += 1;
    this.change({ scale });
    if (this.payload) this.draw();
  }

  // The reader went back or forward.
  follow() {
    const { zone } = this.state;
    clearTimeout(this.zoomTimer);
    this.takeAddress();
    if (zone !== this.state.zone) this.standing.show();
    this.showView();
  }

  showView() {
    this.pendingFine?.abort();
    // What the reader did to the axes of a chart was done to those of another view.
    this.axes += 1;
    this.showControls();
    const seen = this.answers.get(this.key());
    if (seen && this.ageOf(seen) < (this.state.refresh || 60) && this.healthyAnswer(seen)) {
      this.pending?.abort();
      this.pending = null;
      this.payload = seen;
      this.payloadKey = this.key();
      this.draw();
      this.busy(false);
      this.schedule();
      if (this.zoom) this.loadFine();
    } else this.load();
  }

  ageOf(answer) {
    return answer.serverNow - answer.takenAt + (performance.now() - answer.receivedAt) / 1000;
  }

  healthyAnswer(answer) {
    return answer.source.reachable
      && answer.panels.every((panel) => !["stale", "unavailable"].includes(panel.state));
  }

  listen() {
    const { root } = this;
    const ranges = this.find("ranges");
    ranges.addEventListener("click", (event) => {
      const range = event.target.closest("[data-range]")?.dataset.range;
      if (range === "custom") this.openCustom();
      else if (range) {
        this.find("custom").hidden = true;
        this.chooseView({ range, custom: null, step: null });
      }
    });
    ranges.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      const buttons = [...ranges.querySelectorAll("[data-range]")];
      const at = buttons.indexOf(document.activeElement);
      const next = buttons[(at + by + buttons.length) % buttons.length];
      next.focus();
      next.click();
    });
    this.find("custom").addEventListener("submit", (event) => {
      event.preventDefault();
      this.applyCustom();
    });
    this.find("custom-close").addEventListener("click", () => { this.find("custom").hidden = true; });
    this.find("refresh").addEventListener("change", (event) => {
      this.change({ refresh: Number(event.target.value) });
      this.schedule();
      this.wake();
    });
    this.find("by").addEventListener("change", (event) => this.chooseView({ by: event.target.value }));
    this.find("zone").addEventListener("change", (event) => {
      this.change({ zone: event.target.value === "UTC" ? "UTC" : browserZone() });
      this.standing.show();
      if (this.payload) this.draw();
    });
    this.find("refresh-now").addEventListener("click", () => this.load({ quiet: true, now: true }));
    this.find("zoom-reset").addEventListener("click", () => this.unzoom());
    // Another page of the running application needs no new document; one with a query does.
    root.addEventListener("click", (event) => {
      const link = event.target.closest("a.qs-way");
      if (!link || link.search || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
      const known = [...document.querySelectorAll('[data-testid="stTopNavLink"]')]
        .find((one) => one.pathname === link.pathname);
      if (!known) return;
      event.preventDefault();
      known.click();
    });
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) clearTimeout(this.timer);
      else this.wake();
      this.showStatus();
    });
    window.addEventListener("online", () => this.running && this.load({ quiet: true }));
    window.addEventListener("popstate", () => {
      // Another page of the application takes its own addresses.
      if (root.isConnected && location.pathname === this.home) this.follow();
    });
  }

  openCustom() {
    const form = this.find("custom");
    form.hidden = false;
    const [from, to] = this.zoom || this.state.custom
      || (this.payload ? [this.payload.view.from, this.payload.view.to] : [0, 0]);
    const field = (at) => wallText(at, offsetSeconds(this.state.zone, at)).slice(0, 16).replace(" ", "T");
    if (to) {
      this.find("custom-from").value = field(from);
      this.find("custom-to").value = field(to);
    }
    this.find("custom-error").textContent = "";
    this.find("custom-zone").textContent = this.state.zone;
    this.find("custom-from").focus();
  }

  applyCustom() {
    const instant = (text) => {
      const guess = epochOf(text, 0);
      const first = guess - offsetSeconds(this.state.zone, guess);
      return guess - offsetSeconds(this.state.zone, first);
    };
    const from = instant(this.find("custom-from").value);
    const to = instant(this.find("custom-to").value);
    const error = this.find("custom-error");
    if (!Number.isFinite(from) || !Number.isFinite(to)) error.textContent = "Give both times.";
    else if (from >= to) error.textContent = "The start must lie before the end.";
    else if (this.payload && from >= this.serverNow() + this.payload.source.offset) {
      error.textContent = "The start lies in the future.";
    }
    else {
      this.find("custom").hidden = true;
      this.chooseView({ custom: [from, to], step: null });
    }
  }

  // ---- theme

  applyTheme() {
    const theme = this.isPrinting ? "light" : currentTheme(this.root);
    if (theme === this.theme) return;
    this.theme = theme;
    this.root.dataset.theme = theme;
    if (this.payload && !this.isPrinting) this.draw();
  }

  // ---- paper

  // `where`: see `followPrinting`.
  print(where) {
    const wasPrinting = this.isPrinting;
    this.isPrinting = where !== null;
    if (!this.isPrinting && !wasPrinting) return;
    this.applyTheme();
    this.showPrinted();
    for (const chart of this.charts) chart.print(where);
  }

  showPrinted() {
    const { payload, fine, state } = this;
    if (!payload) return;
    const times = payload.panels.map((panel) => panel.asOf).filter(Boolean);
    this.find("printed").textContent = printedWords({
      view: payload.view, by: payload.view.by, zoom: this.zoom, zone: state.zone, offset: this.offset,
      stepWords: (fine ?? payload).view.stepWords,
      asOf: times.length ? Math.min(...times) : null, now: this.serverNow() + payload.source.offset,
    });
  }
}

// The page of another view, of which nothing is known.
function emptied(payload, cause) {
  const panels = payload.panels.map((panel) => ({
    ...panel, state: "unavailable", asOf: null, now: null, cause, warnings: [], hidden: 0,
    dataStart: null, relaidAt: null, atLeast: null, decoded: null,
    details: { series: 0, lookup: "source_error" },
    figure: { ...panel.figure, data: [], point: "" },
  }));
  return { ...payload, panels };
}

// Streamlit's own theme once it is there; until then its stored choice, or the system's.
function currentTheme(root) {
  const background = getComputedStyle(root).getPropertyValue("--st-background-color").trim();
  const rgb = background.startsWith("#")
    ? background.slice(1).match(background.length > 6 ? /../g : /./g)
      .map((part) => parseInt(part.padEnd(2, part), 16))
    : (background.match(/\d+/g) ?? []).map(Number);
  if (rgb.length >= 3) {
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] < 128 ? "dark" : "light";
  }
  try {
    for (let i = 0; i < localStorage.length; i += 1) {
      const key = localStorage.key(i);
      if (key.startsWith("stActiveTheme")) {
        const name = String(JSON.parse(localStorage.getItem(key))?.name ?? "").toLowerCase();
        if (name.includes("dark")) return "dark";
        if (name.includes("light")) return "light";
      }
    }
  } catch {
    // A browser that forbids storage has no stored choice.
  }
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}
