// The page: connects the reader's choices, the answers, the charts and the overview.
import { Chart } from "../charts/chart.js";
import { allAlerts, chartMarks, marksNote } from "../charts/marks.js";
import { named } from "../ui/elements.js";
import { followLinks } from "../ui/navigation.js";
import { refusalPage } from "../ui/refusal.js";
import { Declined, NO_ANSWER, Refused } from "../ui/request.js";
import { isAnswered } from "../ui/states.js";
import { sentence } from "../ui/text.js";
import { currentTheme } from "../ui/theme.js";
import { momentText, offsetSeconds } from "../ui/time.js";
import { askedAddress, isBareAddress, isWrittenAs, readAddress, viewQuery, writeAddress } from "./address.js";
import { Banner, bannerOf } from "./banner.js";
import { nextWords, RefreshClock, secondsToNext } from "./clock.js";
import { Controls } from "./controls.js";
import { Overview } from "./overview.js";
import { followPrinting, printedWords } from "./printing.js";
import { Store } from "./store.js";

/** @import { AskedAddress, Defaults, Flow, ViewAnswer } from "../answers.d.ts" */
/** @import { Context } from "../charts/chart.js" */
/** @import { Refusal } from "../ui/refusal.js" */
/** @import { Choices } from "./address.js" */

const USUAL_AGE_SECONDS = 60;
const ZOOM_REST_MS = 250;

export class Page {
  /** @type {Choices} */
  choices;
  /** @type {number[] | null} the part of the view that is shown, in epoch seconds */
  zoom = null;
  /** @type {string[]} on what in the address was not accepted */
  remarks = [];
  /** @type {HTMLElement | null} the page that replaces it for a reader who may not look */
  refusal = null;
  #isRunning = false;
  #isPrinting = false;
  #theme = "";
  /** Goes up whenever the reader's zooms no longer apply. */
  #axes = 0;
  #search = "";
  #home = "";
  /** @type {AbortController | null} */
  #asking = null;
  /** @type {AbortController | null} */
  #askingFine = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #zoomTimer;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #ticking;
  #wantedFlows = 0;
  /** @type {(Flow | null)[] | null} */
  #shownFlows = null;

  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** @type {Defaults} */
    this.defaults = JSON.parse(root.dataset.defaults ?? "");
    this.store = new Store(this.defaults.base);
    this.choices = this.#takeAddress(askedAddress());
    this.clock = new RefreshClock(() => this.load({ isQuiet: true }));
    this.charts = [...root.querySelectorAll("[data-panel]")].map((element, n) => new Chart(
      /** @type {HTMLElement} */ (element), this.defaults.layout, n === 0,
      {
        onZoom: (window) => this.#zoomed(window),
        onReset: () => this.unzoom(),
        onPoint: (source, at) => this.#pointed(source, at),
        onScale: (scale) => this.#chooseScale(scale),
        onRefused: (refusal) => this.#refuse(refusal),
      },
    ));
    const moment = (/** @type {number} */ at) => this.#moment(at);
    this.overview = new Overview(root, {
      base: this.defaults.base,
      now: () => this.store.chartNow,
      moment,
      words: (reason, write = moment) => reason.map((part) => (typeof part === "string" ? part : write(part.at))).join(""),
      reveal: (panel) => this.#reveal(panel),
    }, {
      onShown: () => {
        this.#showMarks();
        this.#showLive();
      },
      onRefused: (refusal) => this.#refuse(refusal),
    });
    this.controls = new Controls(root, {
      onView: (part) => this.chooseView(part),
      onRefresh: (refresh) => {
        this.#change({ refresh });
        this.#schedule();
      },
      onZone: (zone) => {
        this.#change({ zone });
        this.overview.show();
        this.#draw();
      },
      onNow: () => this.load({ isQuiet: true, isNow: true }),
      onUnzoom: () => this.unzoom(),
      window: () => this.zoom ?? this.choices.custom ?? (this.store.answer && [this.store.answer.view.from, this.store.answer.view.to]),
      now: () => this.store.chartNow,
    });
    this.banner = new Banner(root);
    this.applyTheme();
    this.#listen();
    this.#showControls();
  }

  // ---- life

  /** The page was opened, or returned to from another page, at the present address. */
  enter() {
    this.#home = location.pathname;
    if (location.search !== this.#search && !isBareAddress()) this.#follow();
    if (!isWrittenAs(this.choices, this.zoom)) this.#write();
  }

  /**
   * Resolves once there is a first answer.
   * @param {(ViewAnswer & { serverNow: number }) | null} [inline] what came with the document
   */
  async start(inline = null) {
    if (this.#isRunning || this.refusal) return;
    this.#isRunning = true;
    this.#ticking = setInterval(() => this.#tick(), 1000);
    if (inline) {
      this.store.takeInline(this.#key, inline);
      this.#showAnswer();
      this.overview.load(this.#maxAge);
    } else if (this.store.answer) this.#wake();
    else await this.load();
  }

  stop() {
    this.#isRunning = false;
    clearInterval(this.#ticking);
    this.clock.rest();
  }

  /** Resolves when all charts are drawn. */
  drawn() {
    return Promise.all(this.charts.map((chart) => chart.drawn));
  }

  #wake() {
    if (!this.#isRunning || document.hidden) return;
    if (this.clock.isDue) this.load({ isQuiet: true });
    else this.#schedule();
  }

  #tick() {
    this.applyTheme();
    this.#showStatus();
    for (const chart of this.charts) chart.showState();
  }

  // A reader who may no longer look keeps nothing on screen.
  #refuse(/** @type {Refusal} */ refusal) {
    if (this.refusal) return;
    this.stop();
    for (const chart of this.charts) chart.plot.purge();
    this.store.clear();
    this.refusal = refusalPage(refusal, `${this.defaults.base}/queuescope/view?${this.#key}&age=600`);
    this.root.replaceWith(this.refusal);
    document.getElementById("queuescope-snapshot")?.remove();
  }

  // ---- the address

  /** Takes the choices from the address. @param {AskedAddress | null} [asked] */
  #takeAddress(asked = null) {
    const { choices, zoom, remarks } = readAddress(this.defaults, asked);
    this.choices = choices;
    this.zoom = zoom;
    this.store.fine = null;
    this.remarks = remarks;
    this.#search = location.search;
    return choices;
  }

  /** @param {boolean} [isStep] the browser's Back button leads to what was drawn before */
  #write(isStep = false) {
    writeAddress(this.choices, this.zoom, isStep);
    this.#search = location.search;
  }

  // The reader went back or forward.
  #follow() {
    const { zone } = this.choices;
    clearTimeout(this.#zoomTimer);
    this.#takeAddress();
    if (zone !== this.choices.zone) this.overview.show();
    this.#showView();
  }

  // ---- what the reader chooses

  /** @param {Partial<Choices>} part */
  #change(part) {
    Object.assign(this.choices, part);
    this.#write();
    this.#showControls();
  }

  /** @param {Partial<Choices>} part */
  chooseView(part) {
    Object.assign(this.choices, part);
    this.zoom = null;
    this.store.fine = null;
    this.remarks = [];
    this.#write(true);
    this.#showView();
  }

  /** @param {Choices["scale"]} scale */
  #chooseScale(scale) {
    this.#axes += 1;
    this.#change({ scale });
    this.#draw();
  }

  #showView() {
    this.#askingFine?.abort();
    // The reader's zooms were those of another view.
    this.#axes += 1;
    this.#showControls();
    if (!this.store.recall(this.#key, this.#maxAge)) {
      this.load();
      return;
    }
    this.#asking?.abort();
    this.#asking = null;
    this.#showAnswer();
  }

  /** @param {number[]} window */
  #zoomed([from, to]) {
    if (!(to - from >= 1)) return;
    const window = this.zoom = [from, to];
    for (const chart of this.charts) chart.zoomTo(window);
    this.#showControls();
    clearTimeout(this.#zoomTimer);
    this.#zoomTimer = setTimeout(() => {
      if (!this.zoom) return;
      this.#write(true);
      this.#loadFine();
    }, ZOOM_REST_MS);
  }

  unzoom() {
    if (this.zoom) {
      this.zoom = null;
      this.store.fine = null;
      this.#askingFine?.abort();
      clearTimeout(this.#zoomTimer);
      this.#write(true);
    }
    for (const chart of this.charts) chart.reset();
    this.#draw();
  }

  /** @param {Chart} source @param {number | null} at */
  #pointed(source, at) {
    for (const chart of this.charts) {
      if (chart === source) chart.point(at);
      else chart.echo(at);
    }
  }

  /** @param {string} panel */
  #reveal(panel) {
    const element = this.charts.find((chart) => chart.id === panel)?.element;
    if (!element) return;
    element.scrollIntoView({ block: "center", behavior: "smooth" });
    element.tabIndex = -1;
    element.focus({ preventScroll: true });
  }

  // ---- asking

  /** The query for the view. */
  get #key() {
    return viewQuery(this.choices, null);
  }

  /** How old an answer may be, in seconds. */
  get #maxAge() {
    return this.choices.refresh || USUAL_AGE_SECONDS;
  }

  /**
   * `isQuiet` leaves the screen as it is until the answer is there; `isNow` asks for the newest data.
   * @param {{ isQuiet?: boolean, isNow?: boolean }} [how]
   */
  async load({ isQuiet = false, isNow = false } = {}) {
    this.clock.clear();
    this.#asking?.abort();
    const asking = this.#asking = new AbortController();
    const key = this.#key;
    const maxAge = isNow ? 1 : this.#maxAge;
    if (!isQuiet) this.#busy(true);
    this.controls.turning(isNow);
    this.#showStatus();
    this.overview.load(maxAge);
    try {
      // The interval lets the server prepare the next answer in time.
      const query = `${key}&refresh=${this.choices.refresh || "off"}`;
      const answer = await this.store.ask(query, maxAge, asking.signal);
      if (this.#asking !== asking) return;
      this.store.take(key, answer);
      this.#showAnswer(isNow);
    } catch (error) {
      if (this.#asking !== asking) return;
      if (error instanceof Refused) this.#refuse(error.refusal);
      else this.#fail(key, error instanceof Declined ? error.message : "");
    } finally {
      if (this.#asking === asking) {
        this.#asking = null;
        this.controls.turning(false);
        this.#showStatus();
      }
    }
  }

  /** @param {string} key @param {string} words what the server declined with, if it did */
  #fail(key, words) {
    this.store.fail(key, words || NO_ANSWER, Boolean(words));
    this.#busy(false);
    if (this.store.answer) this.#draw();
    else {
      for (const chart of this.charts) chart.fail(sentence(this.store.problem));
      this.#showStatus();
    }
    this.#schedule();
  }

  async #loadFine(isNow = false) {
    const { zoom } = this;
    if (!zoom || !this.store.answer) return;
    // Half a window more on each side, so that a short pan finds points.
    const half = (zoom[1] - zoom[0]) / 2;
    const window = [zoom[0] - half, zoom[1] + half];
    this.#askingFine?.abort();
    const asking = this.#askingFine = new AbortController();
    this.controls.loadingZoom(true);
    try {
      const answer = await this.store.ask(viewQuery(this.choices, window), isNow ? 1 : this.#maxAge, asking.signal);
      if (this.#askingFine !== asking || !this.zoom || !this.store.answer) return;
      this.store.fine = answer.view.step < this.store.answer.view.step ? answer : null;
      this.#draw();
    } catch (error) {
      if (error instanceof Refused) this.#refuse(error.refusal);
      // The coarser points stay until the next refresh.
      else if (!asking.signal.aborted) console.warn("no finer points:", error);
    } finally {
      if (this.#askingFine === asking) {
        this.#askingFine = null;
        this.controls.loadingZoom(false);
      }
    }
  }

  // Asked for only once the charts are drawn.
  async #loadFlows() {
    await this.drawn();
    const { answer, fine } = this.store;
    const wanted = this.choices.by === "none" ? [answer, fine].filter((one) => one !== null) : [];
    const number = this.#wantedFlows += 1;
    const flows = await this.store.flows(wanted);
    if (this.#wantedFlows !== number) return;
    const shown = this.#shownFlows;
    if (shown && flows.length === shown.length && flows.every((flow, n) => flow === shown[n])) return;
    this.#shownFlows = flows;
    for (const chart of this.charts) chart.showFlows(flows);
  }

  #schedule() {
    const { store, choices } = this;
    const seconds = this.#isRunning ? secondsToNext({
      refresh: choices.refresh, age: store.age, isHealthy: store.isHealthy, isDisconnected: store.problem !== "",
    }) : null;
    this.clock.set(seconds, document.hidden);
    this.#showStatus();
  }

  // ---- showing

  #showAnswer(isNow = false) {
    this.#busy(false);
    this.#draw();
    this.#schedule();
    if (this.zoom) this.#loadFine(isNow);
  }

  #draw() {
    const { store, choices } = this;
    const { answer, fine } = store;
    if (!answer) return;
    /** @type {Context} */
    const context = {
      view: answer.view, zone: choices.zone, offset: offsetSeconds(choices.zone, answer.view.to),
      zoom: this.zoom, axes: this.#axes, isLog: choices.scale === "log", base: this.defaults.base,
      isUnmeasured: store.unmeasured !== "",
      now: () => store.chartNow,
      answer: (panel) => (fine?.panels.includes(panel) ? fine : answer),
      page: () => ({
        problem: store.problem,
        next: this.#nextWords(),
        lastSeen: answer.source.lastSeen && answer.source.lastSeen + answer.source.offset,
        version: answer.source.version,
      }),
    };
    for (const chart of this.charts) {
      const panel = answer.panels.find(({ id }) => id === chart.id);
      chart.element.hidden = !panel;
      if (panel) chart.show(panel, fine?.panels.find(({ id }) => id === chart.id), context);
    }
    named(this.root, "unmeasured").hidden = !context.isUnmeasured;
    named(this.root, "unmeasured-words").textContent = store.unmeasured;
    this.#showControls();
    this.#showMarks();
    this.#showStatus();
    this.#loadFlows();
  }

  /** Operations are marked on all charts, each alert on the chart of its panel. */
  #showMarks() {
    const { content } = this.overview;
    const recorded = this.store.answer?.alerts ?? { list: [], more: 0 };
    const alerts = allAlerts(content?.alerts ?? [], recorded.list);
    const moment = (/** @type {number} */ at) => this.#moment(at);
    const note = marksNote(content?.acts, recorded.more, moment);
    for (const chart of this.charts) {
      chart.showMarks(chartMarks(chart.id, content?.acts?.list ?? [], alerts, moment), note);
    }
  }

  // A chart ends with the figure of its card.
  #showLive() {
    const cards = this.overview.problem ? [] : this.overview.content?.kpis ?? [];
    for (const chart of this.charts) {
      const card = cards.find(({ panel }) => panel === chart.id);
      chart.showLive(card && isAnswered(card.state) ? card : null);
    }
  }

  /** @param {boolean} on */
  #busy(on) {
    this.root.classList.toggle("qs-busy", on);
    for (const chart of this.charts) chart.busy(on);
  }

  /** An instant in the reader's zone. @param {number} at */
  #moment(at) {
    return momentText(at, this.choices.zone, this.store.answer ? this.store.serverNow : at);
  }

  #nextWords() {
    return nextWords({
      isAsking: this.#asking !== null, isOff: !this.choices.refresh && !this.store.problem,
      isHidden: document.hidden, left: this.clock.left,
    });
  }

  #showStatus() {
    const { store } = this;
    const line = named(this.root, "status");
    const dot = named(this.root, "dot");
    const next = this.#nextWords();
    if (store.answer) {
      const at = this.#moment(store.triedAt ?? store.answer.takenAt);
      dot.dataset.tone = store.isHealthy ? "good" : "bad";
      line.textContent = `${store.isHealthy ? "updated" : "tried"} ${at}, ${next}`;
    } else {
      dot.dataset.tone = store.problem ? "bad" : "wait";
      line.textContent = store.problem ? next : "Asking Prometheus…";
    }
    this.banner.show(bannerOf(store, this.choices, this.remarks));
  }

  #showControls() {
    const { answer, fine } = this.store;
    let zoom = "";
    if (this.zoom && answer) {
      const [from, to] = this.zoom.map((at) => this.#moment(at));
      zoom = `${from} to ${to}, a point every ${(fine ?? answer).view.stepWords}`;
    }
    this.controls.show(this.choices, zoom);
  }

  applyTheme() {
    const theme = this.#isPrinting ? "light" : currentTheme(this.root);
    if (theme === this.#theme) return;
    this.#theme = theme;
    this.root.dataset.theme = theme;
    if (!this.#isPrinting) this.#draw();
  }

  /** @param {"paper" | "sheet" | null} where see `followPrinting` */
  #print(where) {
    const wasPrinting = this.#isPrinting;
    this.#isPrinting = where !== null;
    if (!this.#isPrinting && !wasPrinting) return;
    this.applyTheme();
    this.#showPrinted();
    for (const chart of this.charts) chart.print(where);
  }

  #showPrinted() {
    const { answer, fine, dataTimes, chartNow } = this.store;
    if (!answer) return;
    const { zone } = this.choices;
    named(this.root, "printed").textContent = printedWords({
      view: answer.view, zoom: this.zoom, zone, offset: offsetSeconds(zone, answer.view.to),
      stepWords: (fine ?? answer).view.stepWords,
      asOf: dataTimes.length ? Math.min(...dataTimes) : null, now: chartNow,
    });
  }

  #listen() {
    followLinks(this.root);
    followPrinting((where) => this.#print(where));
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.clock.rest();
      else this.#wake();
      this.#showStatus();
    });
    window.addEventListener("online", () => this.#isRunning && this.load({ isQuiet: true }));
    window.addEventListener("popstate", () => {
      // Other pages of the application handle their own addresses.
      if (this.root.isConnected && location.pathname === this.#home) this.#follow();
    });
  }
}
