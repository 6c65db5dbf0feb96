// The page: connects the reader's choices, the answers, the charts and the overview.
import { Charts } from "../charts/charts.js";
import { named } from "../ui/elements.js";
import { followLinks } from "../ui/navigation.js";
import { refusalPage } from "../ui/refusal.js";
import { sentence } from "../ui/text.js";
import { currentTheme } from "../ui/theme.js";
import { momentText, offsetSeconds } from "../ui/time.js";
import { Banner, bannerOf } from "./banner.js";
import { Controls } from "./controls.js";
import { Loader } from "./loader.js";
import { Overview } from "./overview.js";
import { followPrinting, printedWords } from "./printing.js";
import { Selection } from "./selection.js";
import { Store } from "./store.js";

/** @import { Defaults, ViewAnswer } from "../answers.d.ts" */
/** @import { Context } from "../charts/chart.js" */
/** @import { Refusal } from "../ui/refusal.js" */
/** @import { Choices } from "./address.js" */

const ZOOM_REST_MS = 250;

export class Page {
  /** @type {HTMLElement | null} the page that replaces it for a reader who may not view it */
  refusal = null;
  #isPrinting = false;
  #theme = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #zoomTimer;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #ticking;

  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** @type {Defaults} */
    this.defaults = JSON.parse(root.dataset.defaults ?? "");
    const onRefused = (/** @type {Refusal} */ refusal) => this.#refuse(refusal);
    const moment = (/** @type {number} */ at) => this.#moment(at);
    this.store = new Store(this.defaults.base);
    this.selection = new Selection(this.defaults);
    this.charts = new Charts(root, this.defaults.layout, {
      onZoom: (window) => this.#zoomed(window),
      onReset: () => this.unzoom(),
      onScale: (scale) => this.#chooseScale(scale),
      onRefused,
    });
    this.overview = new Overview(root, {
      base: this.defaults.base,
      now: () => this.store.chartNow,
      moment,
      words: (reason, write = moment) => reason.map((part) => (typeof part === "string" ? part : write(part.at))).join(""),
      reveal: (panel) => this.charts.reveal(panel),
    }, {
      onShown: () => {
        this.#showMarks();
        this.charts.showLive(this.overview.problem ? [] : this.overview.content?.kpis ?? []);
      },
      onRefused,
    });
    this.loader = new Loader(this.store, this, {
      onAsk: ({ isQuiet, isNow, maxAge }) => {
        if (!isQuiet) this.#busy(true);
        this.controls.turning(isNow);
        this.#showStatus();
        this.overview.load(maxAge);
      },
      onDone: () => {
        this.controls.turning(false);
        this.#showStatus();
      },
      onAnswer: () => {
        this.#busy(false);
        if (this.store.answer) this.#draw();
        else this.charts.fail(sentence(this.store.problem));
      },
      onFine: () => this.#draw(),
      onZoom: (isLoading) => this.controls.loadingZoom(isLoading),
      onScheduled: () => this.#showStatus(),
      onRefused,
    });
    this.controls = new Controls(root, {
      onView: (part) => this.chooseView(part),
      onRefresh: (refresh) => {
        this.#change({ refresh });
        this.loader.schedule();
      },
      onZone: (zone) => {
        this.#change({ zone });
        this.overview.show();
        this.#draw();
      },
      onNow: () => this.loader.load({ isQuiet: true, isNow: true }),
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
    this.selection.enter();
    if (this.selection.isOutdated) this.#follow();
    this.selection.tidyAddress();
  }

  /**
   * Resolves once there is a first answer.
   * @param {(ViewAnswer & { serverNow: number }) | null} [inline] what came with the document
   */
  async start(inline = null) {
    const { loader } = this;
    if (loader.isRunning || this.refusal) return;
    loader.isRunning = true;
    this.#ticking = setInterval(() => this.#tick(), 1000);
    if (inline) {
      this.store.takeInline(loader.key, inline);
      loader.show();
      this.overview.load(loader.maxAge);
    } else if (this.store.answer) loader.wake();
    else await loader.load();
  }

  stop() {
    this.loader.stop();
    clearInterval(this.#ticking);
  }

  /** Whether the tab is hidden. */
  get isHidden() {
    return document.hidden;
  }

  /** Resolves when all charts are drawn. */
  drawn() {
    return this.charts.drawn;
  }

  #tick() {
    this.applyTheme();
    this.#showStatus();
    this.charts.showState();
  }

  // A reader who may no longer view it keeps nothing on screen.
  #refuse(/** @type {Refusal} */ refusal) {
    if (this.refusal) return;
    this.stop();
    this.charts.purge();
    this.store.clear();
    this.refusal = refusalPage(refusal, `${this.defaults.base}/queuescope/view?${this.loader.key}&age=600`);
    this.root.replaceWith(this.refusal);
    document.getElementById("queuescope-snapshot")?.remove();
  }

  // ---- what the reader chooses

  get choices() {
    return this.selection.choices;
  }

  get zoom() {
    return this.selection.zoom;
  }

  // The reader went back or forward.
  #follow() {
    const { zone } = this.choices;
    clearTimeout(this.#zoomTimer);
    this.selection.take();
    this.store.fine = null;
    if (zone !== this.choices.zone) this.overview.show();
    this.#showView();
  }

  /** @param {Partial<Choices>} part */
  #change(part) {
    this.selection.change(part);
    this.#showControls();
  }

  /** @param {Partial<Choices>} part */
  chooseView(part) {
    this.selection.chooseView(part);
    this.store.fine = null;
    this.#showView();
  }

  /** @param {Choices["scale"]} scale */
  #chooseScale(scale) {
    this.selection.axes += 1;
    this.#change({ scale });
    this.#draw();
  }

  #showView() {
    // The reader's zooms were those of another view.
    this.selection.axes += 1;
    this.#showControls();
    this.loader.loadOrRecall();
  }

  /** @param {number[]} window */
  #zoomed([from, to]) {
    if (!(to - from >= 1)) return;
    this.selection.zoom = [from, to];
    this.charts.zoomTo(this.selection.zoom);
    this.#showControls();
    clearTimeout(this.#zoomTimer);
    this.#zoomTimer = setTimeout(() => {
      if (!this.zoom) return;
      this.selection.keepZoom();
      this.loader.loadFine();
    }, ZOOM_REST_MS);
  }

  unzoom() {
    if (this.zoom) {
      this.selection.zoom = null;
      this.store.fine = null;
      this.loader.abortFine();
      clearTimeout(this.#zoomTimer);
      this.selection.keepZoom();
    }
    this.charts.reset();
    this.#draw();
  }

  // ---- showing

  #draw() {
    const { store, choices } = this;
    const { answer, fine } = store;
    if (!answer) return;
    /** @type {Context} */
    const context = {
      view: answer.view, zone: choices.zone, offset: this.#offset, zoom: this.zoom, axes: this.selection.axes,
      isLog: choices.scale === "log", base: this.defaults.base, isUnmeasured: store.unmeasured !== "",
      now: () => store.chartNow,
      answer: (panel) => (fine?.panels.includes(panel) ? fine : answer),
      page: () => ({
        problem: store.problem,
        next: this.loader.nextWords,
        lastSeen: answer.source.lastSeen && answer.source.lastSeen + answer.source.offset,
        version: answer.source.version,
      }),
    };
    this.charts.show(answer, fine, context);
    named(this.root, "unmeasured").hidden = !context.isUnmeasured;
    named(this.root, "unmeasured-words").textContent = store.unmeasured;
    this.#showControls();
    this.#showMarks();
    this.#showStatus();
    this.#showFlows();
  }

  async #showFlows() {
    // Asked for only once the charts are drawn, and only if one of them shows the queue depth.
    await this.drawn();
    if (!this.store.answer?.panels.some(({ role }) => role === "depth")) return;
    const flows = await this.loader.flows();
    if (flows) this.charts.showFlows(flows);
  }

  #showMarks() {
    const { content } = this.overview;
    const recorded = this.store.answer?.alerts ?? { list: [], more: 0 };
    this.charts.showMarks(content?.operations, content?.alerts ?? [], recorded, (at) => this.#moment(at));
  }

  /** @param {boolean} on */
  #busy(on) {
    this.root.classList.toggle("qs-busy", on);
    this.charts.busy(on);
  }

  /** An instant in the reader's zone. @param {number} at */
  #moment(at) {
    return momentText(at, this.choices.zone, this.store.answer ? this.store.serverNow : at);
  }

  /** That of the reader's zone at the end of the view. */
  get #offset() {
    return this.store.answer ? offsetSeconds(this.choices.zone, this.store.answer.view.to) : 0;
  }

  #showStatus() {
    const { store } = this;
    const line = named(this.root, "status");
    const dot = named(this.root, "dot");
    const next = this.loader.nextWords;
    if (store.answer) {
      const at = this.#moment(store.triedAt ?? store.answer.takenAt);
      dot.dataset.tone = store.isHealthy ? "good" : "bad";
      line.textContent = `${store.isHealthy ? "updated" : "tried"} ${at}, ${next}`;
    } else {
      dot.dataset.tone = store.problem ? "bad" : "wait";
      line.textContent = store.problem ? next : "Asking Prometheus…";
    }
    this.banner.show(bannerOf(store, this.choices, this.selection.remarks));
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
    this.charts.print(where);
  }

  #showPrinted() {
    const { answer, fine, dataTimes, chartNow } = this.store;
    if (!answer) return;
    named(this.root, "printed").textContent = printedWords({
      view: answer.view, zoom: this.zoom, zone: this.choices.zone, offset: this.#offset,
      stepWords: (fine ?? answer).view.stepWords,
      asOf: dataTimes.length ? Math.min(...dataTimes) : null, now: chartNow,
    });
  }

  #listen() {
    followLinks(this.root);
    followPrinting((where) => this.#print(where));
    document.addEventListener("visibilitychange", () => {
      if (this.isHidden) this.loader.clock.rest();
      else this.loader.wake();
      this.#showStatus();
    });
    window.addEventListener("online", () => this.loader.isRunning && this.loader.load({ isQuiet: true }));
    window.addEventListener("popstate", () => {
      // Other pages of the application handle their own addresses.
      if (this.root.isConnected && this.selection.isHome) this.#follow();
    });
  }
}
