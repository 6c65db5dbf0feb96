// One chart: its heading, its state and its Plotly figure.

const PLOT_CONFIG = {
  displaylogo: false,
  showSendToCloud: false,
  responsive: false,
  scrollZoom: false,
  doubleClick: false,
  showTips: false,
};

const STATE_WORDS = {
  fresh: "", partial: "partial", stale: "stale", empty: "no data", idle: "idle",
  unavailable: "unavailable",
};

// Words that a phone has no room for, and does without.
function wideOnly(words) {
  const part = document.createElement("span");
  part.className = "qs-wide";
  part.textContent = words;
  return part;
}

const SOURCES = { broker: "the broker", job_history: "the job history" };

class Chart {
  // `layout` is what all charts have in common.
  constructor(element, layout, { onZoom, onReset, onHover, onUnhover, onScale, onRefused }) {
    this.element = element;
    this.layout = layout;
    this.plot = element.querySelector(".qs-plot");
    this.part = (name) => element.querySelector(`.qs-${name}`);
    this.events = { onZoom, onReset, onHover, onUnhover, onRefused };
    this.drawn = Promise.resolve();
    this.silent = 0;
    this.crosshair = this.part("crosshair");
    const isDepth = element.dataset.panel === "queue_depth";
    this.strip = isDepth ? new Strip(this.part("canvas"), this.part("key")) : null;
    this.marks = new Marks(this.part("canvas"), isDepth);
    this.ends = new LiveEnds(this.part("canvas"));
    this.about = this.part("open");
    this.scale = this.part("scale");
    this.scale.addEventListener("click", () => onScale(this.context?.isLog ? "linear" : "log"));
    this.details = this.part("details");
    this.about.addEventListener("click", () => this.openDetails(this.details.hidden));
    element.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || this.details.hidden) return;
      this.openDetails(false);
      this.about.focus();
    });
    const saves = { picture: () => this.save(), drawn: () => this.saveDrawn(), read: () => this.saveRead() };
    // Over a chart there is no room for a finger: the same buttons stand in the details.
    for (const button of this.details.querySelectorAll("[data-save]")) {
      button.addEventListener("click", saves[button.dataset.save]);
    }
    this.saveButtons = [
      { name: "save", title: "Save as PNG", icon: Plotly.Icons.camera, click: saves.picture },
      { name: "drawn", title: "Save what is drawn as CSV", icon: TABLE_ICON, click: saves.drawn },
      { name: "read", title: "Save all points that were read as CSV", icon: LOAD_ICON, click: saves.read },
    ];
    this.width = 0;
    this.height = 0;
    this.paper = null;
    new ResizeObserver(() => this.resized()).observe(this.plot);
  }

  // Draws `panel` over `window` (epoch seconds); `fine` is the same panel at a finer step.
  show(panel, fine, context) {
    this.panel = panel;
    this.context = context;
    const shown = fine || panel;
    this.element.dataset.state = panel.state;
    if (panel.asOf) this.element.dataset.asOf = new Date(panel.asOf * 1000).toISOString();
    else delete this.element.dataset.asOf;
    this.element.removeAttribute("aria-busy");
    this.part("point").textContent = [shown.figure.point, shown.note].filter(Boolean).join(", ");
    this.part("more").textContent = panel.hidden ? `${panel.hidden} more` : "";
    this.part("more").hidden = !panel.hidden;
    this.scale.hidden = panel.kind !== "latency";
    this.scale.setAttribute("aria-pressed", String(context.isLog));
    this.shown = shown;
    this.notSaved("");
    this.showState();
    this.drawn = this.drawn.then(() => this.draw(shown)).catch((error) => {
      // A chart that cannot be drawn must say so, and must not take its siblings along.
      console.error(error);
      this.message("This chart could not be drawn.", String(error.message || error));
    });
    return this.drawn;
  }

  // The figure of the card, or none: one page tells one present, in the heading and at the end of
  // the curves.
  showLive(figure) {
    const before = JSON.stringify(this.live?.ends);
    this.live = figure;
    if (!this.panel) return;
    this.showNow();
    if (JSON.stringify(figure?.ends) === before || this.panel.state === "stale") return;
    this.drawn = this.drawn.then(() => this.draw(this.shown)).catch((error) => console.error(error));
  }

  // The present value; one that is not whole, or older than the chart itself, says so.
  showNow() {
    const { panel, context } = this, now = this.live ?? panel.now, part = this.part("now");
    part.replaceChildren();
    part.dataset.state = now?.state ?? "";
    part.toggleAttribute("data-live", Boolean(now) && now.origin !== "prometheus");
    const source = SOURCES[now?.origin] ?? "Prometheus";
    const from = now?.asOf ? `From ${source}, as of ${momentText(now.asOf, context.zone, context.now())}.` : "";
    part.title = now ? [from, now.cause && sentence(now.cause), ...now.warnings].filter(Boolean).join("\n") : "";
    if (!now) return;
    const figure = document.createElement("strong");
    figure.textContent = now.words;
    part.append(`${now.late ? panel.nowLabel.replace(/now$/, now.late) : panel.nowLabel} `, figure);
    if (now.state === "partial") part.append(", partial");
    else if (now.state === "stale" && panel.state !== "stale") {
      part.append(`, ${ageText(context.now() - now.asOf)} old`);
    }
  }

  // What counts up with the clock.
  showState() {
    const { panel, context } = this;
    if (!panel) return;
    this.showNow();
    const badge = this.part("badge");
    const old = panel.state === "stale" && panel.asOf
      ? `, ${ageText(context.now() - panel.asOf)}` : "";
    badge.textContent = STATE_WORDS[panel.state] + old;
    if (old) badge.append(wideOnly(" old"));
    badge.hidden = !badge.textContent;
    badge.title = panel.cause || panel.warnings.join("\n");
    const hasCurves = panel.state === "fresh" || panel.state === "partial"
      || panel.state === "stale";
    const said = panel.warnings.join(" ");
    this.part("notes").textContent = hasCurves
      ? [chartNotes(panel, this.shown, context), this.marksNote].filter(Boolean).join(" ") : "";
    this.part("warning").dataset.tone = panel.state === "partial" ? "bad" : "note";
    if (panel.state === "fresh") this.message("", said && `Prometheus remarks: ${said}`);
    else if (hasCurves) this.message("", [panel.cause && sentence(panel.cause), said].filter(Boolean).join(" "));
    else if (panel.state === "unavailable") {
      this.message(
        "No data to show",
        `${sentence(panel.cause)} Nothing is cached for this range, so nothing is drawn.`,
      );
    } else if (panel.state === "idle") this.message("Idle", panel.cause);
    // What is missing stands above all charts, once.
    else if (context.isUnmeasured) this.message("Not measured yet", "");
    else this.message("No data in this range", panel.cause);
    this.showDetails();
  }

  openDetails(open) {
    this.details.hidden = !open;
    this.about.setAttribute("aria-expanded", String(open));
    if (open) this.showDetails();
  }

  showDetails() {
    if (this.details.hidden || !this.panel) return;
    const step = this.context.stepWords(this.shown);
    const shown = { ...this.shown, stepWords: step };
    fillDetails(
      this.details.querySelector("dl"), chartDetails(this.panel, shown, this.context, this.context.page()),
    );
  }

  // Before the first answer there is nothing but the reason why.
  fail(cause) {
    this.element.dataset.state = "unavailable";
    this.message("No data to show", cause);
  }

  message(title, text) {
    const box = this.part("message");
    box.hidden = !title;
    this.part("message-title").textContent = title;
    this.part("message-text").textContent = title ? text : "";
    const warning = this.part("warning");
    warning.textContent = title ? "" : text;
    warning.hidden = !warning.textContent;
  }

  busy(on) {
    if (on) this.element.setAttribute("aria-busy", "true");
    else this.element.removeAttribute("aria-busy");
  }

  // Drawn anew for the paper or the screen; for `where` see `followPrinting`.
  print(where) {
    // Beside the chart, where every name has room.
    const curves = where !== null && this.part("message").hidden && this.panel?.figure.layout.showlegend
      ? this.shownCurves() : [];
    this.part("legend").replaceChildren(...curves.map(({ trace }) => legendEntry(trace)));
    this.paper = { paper: PAPER, sheet: this.place }[where] ?? null;
    if (!this.panel) return;
    this.drawn = this.drawn.then(() => this.draw(this.shown)).catch((error) => console.error(error));
  }

  get place() {
    return { width: this.plot.clientWidth, height: this.plot.clientHeight };
  }

  async draw(shown) {
    const { panel, context } = this;
    const { width, height } = this.paper ?? this.place;
    const { offset, view, zoom } = context;
    const resolve = tokenResolver(this.element);
    const coarse = (panel.decoded ??= decodeTraces(panel.figure));
    const fine = shown === panel ? null : (shown.decoded ??= decodeTraces(shown.figure));
    const byUid = new Map((fine || []).map((curve) => [curve.trace.uid, curve]));
    // Without the source nothing is known of the step that is still open.
    const isAway = panel.state === "stale";
    const curves = coarse.map((curve) => (fine ? splice(curve, byUid.get(curve.trace.uid)) : curve))
      .map((curve) => (isAway ? { ...curve, live: null } : curve))
      .map((curve) => {
        const end = curve.live && view.follows && !view.by && this.live?.ends[curve.trace.name];
        return end ? { ...curve, live: withFigure(curve.live, end, panel.kind) } : curve;
      });
    this.curves = curves;
    const isLog = context.isLog && panel.kind === "latency";
    const data = curves.map((curve) => plotlyTrace(curve, offset, resolve));
    if (isLog) {
      for (const trace of data) trace.y = trace.y.map((y) => (y === null ? y : Math.max(y, LEAST_MS)));
    }
    const live = curves.map((curve) => curve.live).find(Boolean) ?? null;
    this.ends.show(curves.map(({ trace, live: end }) => ({ uid: trace.uid, end })));
    if (live) this.element.dataset.live = new Date(live.at * 1000).toISOString();
    else delete this.element.dataset.live;
    curves.forEach((curve, n) => {
      const flows = n === 0 && this.strip?.flows.length;
      if (!flows && !curve.live) return;
      const { times } = withLive(curve);
      const words = times.map((at) => (flows ? this.strip.textAt(at) : ""));
      data[n].text = words.map((text) => (text ? `<br>${text}` : ""));
      if (times.length > curve.times.length) {
        data[n].text[times.length - 1] = liveWords(curve.live, panel.kind);
      }
      data[n].hovertemplate += "%{text}";
    });
    const own = { ...panel.figure.layout, ...(this.paper ? { showlegend: false } : {}) };
    const layout = resolve({
      ...this.layout, ...own, yaxis: { ...this.layout.yaxis, ...own.yaxis },
    });
    const extremes = endExtremes(curves.map((curve) => curve.live));
    if (extremes.length) {
      const given = layout.yaxis.autorangeoptions;
      const include = [...(given?.include ?? []), ...extremes].filter((value) => !isLog || value > 0);
      layout.yaxis.autorangeoptions = { ...given, include };
    }
    const [from, to] = zoom || [view.from, viewEnd(view)];
    layout.xaxis.range = [wallText(from, offset), wallText(to, offset)];
    layout.xaxis.uirevision = layout.yaxis.uirevision = `axes-${context.axes}`;
    if (isLog) layout.yaxis.type = "log";
    if (panel.dataStart > from && panel.state !== "stale") {
      layout.shapes = [...(layout.shapes ?? []), resolve(beforeData(from, panel.dataStart, offset))];
    }
    const visible = zoom && visibleRange(panel.kind, data, layout.xaxis.range, isLog);
    if (visible) layout.yaxis.range = visible;
    if (panel.kind === "latency") {
      const limits = (own.shapes ?? []).map((shape) => shape.y0);
      const ends = visible ? axisEnds(layout.yaxis) : expectedRange(data, [...limits, ...extremes], isLog);
      Object.assign(layout.yaxis, durationTicks(...ends, isLog));
    }
    layout.xaxis.title = {
      text: `${context.zone === "UTC" ? "" : `${context.zone}, `}${offsetWords(offset)}`,
      standoff: 6, font: { size: 11 },
    };
    layout.xaxis.unifiedhovertitle = {
      text: `%{x|%a %d %b %H:%M:%S} ${offsetWords(offset)}<br>${shown.figure.point}`,
    };
    // A finger scrolls the page over a chart; it zooms with the range selector.
    const touch = matchMedia("(pointer: coarse)").matches;
    if (touch) layout.dragmode = false;
    layout.xaxis.nticks = Math.max(3, Math.min(8, Math.round(width / 75)));
    // It grows with its labels, but shrinks only with another view: what stands under the pointer
    // must not move with a refresh.
    const room = roomForLabels(data, layout);
    const sameView = this.roomFor === `${view.range} ${view.step} ${view.by}`;
    this.roomFor = `${view.range} ${view.step} ${view.by}`;
    this.room = sameView ? { ...room, l: Math.max(room.l, this.room.l) } : room;
    layout.margin = { ...layout.margin, ...this.room };
    layout.width = this.width = width;
    layout.height = this.height = height;
    await Plotly.react(this.plot, data, layout, {
      ...PLOT_CONFIG, displayModeBar: touch ? false : "hover",
      modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", ...this.saveButtons]],
    });
    this.listen();
    // The page may have got another size meanwhile.
    this.resized();
    this.overlay();
    this.point(this.pointedAt);
  }

  // How arrival went against completion, from coarse to fine.
  showFlows(flows) {
    if (!this.strip) return;
    this.strip.show(flows);
    // Its words stand in the tooltip of the curve.
    if (this.panel) this.drawn = this.drawn.then(() => this.draw(this.shown));
  }

  // `note` says what is not known of them.
  showMarks(marks, note) {
    this.marks.show(marks);
    this.marksNote = note;
    this.overlay();
    this.showState();
  }

  // A picture that says by itself what it shows, of when, and in which zone.
  save() {
    const { panel, context, plot } = this;
    const [from, to] = plot._fullLayout.xaxis.range.map((wall) => String(wall).slice(0, 16));
    const by = context.view.by ? `, by ${context.view.by}` : "";
    const title = `${panel.title}${by}: ${from} to ${to} ${offsetWords(context.offset)}`;
    const file = ["queuescope", panel.id, from, "to", to, offsetWords(context.offset)].join("_");
    const layout = {
      ...plot.layout,
      title: { text: title, font: { size: 14 }, x: 0.02, xanchor: "left" },
      margin: { ...plot.layout.margin, t: plot.layout.margin.t + 36 },
      paper_bgcolor: plot.layout.hoverlabel.bgcolor,
    };
    return Plotly.downloadImage({ data: plot.data, layout }, {
      format: "png", scale: 2, width: this.width, height: this.height + 36,
      filename: file.replace(/[^\w+−-]+/g, "-"),
    });
  }

  // The points of the curves that are shown, within the time that is shown.
  saveDrawn() {
    const { panel, context, plot } = this;
    if (!this.hasPoints()) return;
    const { offset, zone } = context;
    const window = plot._fullLayout.xaxis.range.map((wall) => epochOf(wall, offset));
    // The axis ends with whole seconds.
    const rows = this.shownCurves()
      .flatMap((curve) => pointRows(panel, curve, window, { offset, zone }))
      .filter(({ at }) => at >= window[0] && at < window[1] + 1);
    saveFile(csvText([POINT_COLUMNS, ...rows.map(({ cells }) => cells)]), this.fileName("drawn", window));
  }

  // What was read before anything was left out for drawing, of the answer that is drawn: the server
  // has it. The step that is still open is as it is drawn, too: a card may have told its end anew.
  async saveRead() {
    const { panel, shown, context } = this;
    if (!this.hasPoints()) return;
    const { offset, zone } = context;
    const { query: asked, takenAt, view } = context.answer(shown);
    const window = [view.from, shown.figure.live?.at ?? view.to];
    const open = !shown.figure.live ? [] : this.curves
      .flatMap((curve) => pointRows(panel, curve, window, { offset, zone }))
      .filter(({ isOpen }) => isOpen);
    const query = new URLSearchParams(asked);
    const wanted = { panel: panel.id, tz: zone, offset, taken: takenAt, steps: "closed" };
    for (const [name, value] of Object.entries(wanted)) query.set(name, value);
    const told = await fetchFile(`${context.base}/queuescope/chart.csv?${query}`);
    if (told.refusal) this.events.onRefused(told.refusal);
    else if (told.problem) this.notSaved(`Not saved: ${told.problem}`);
    else saveFile(told.text + csvText(open.map(({ cells }) => cells)), this.fileName("read", [view.from, viewEnd(view)]));
  }

  // Those that the reader has not put out.
  shownCurves() {
    const shown = new Set(
      (this.plot._fullData ?? []).filter((one) => one.visible === true).map((one) => one.uid),
    );
    return (this.curves ?? []).filter((curve) => shown.has(curve.trace.uid));
  }

  hasPoints() {
    const has = Boolean(this.context && this.curves?.length);
    this.notSaved(has ? "" : "Not saved: nothing is drawn here.");
    return has;
  }

  // Why there is no file.
  notSaved(text) {
    const said = this.part("unsaved");
    said.textContent = text;
    said.hidden = !text;
  }

  fileName(what, window) {
    const { panel, context } = this;
    const [from, to] = window.map((at) => wallText(at, context.offset).slice(0, 16));
    const by = panel.by ? [`by_${panel.by}`] : [];
    const parts = ["queuescope", panel.id, ...by, what, from, "to", to, context.zone];
    return `${parts.join("_").replace(/[^\w+−]+/g, "-")}.csv`;
  }

  // What lies over the chart follows its axis.
  overlay() {
    const axis = this.plot._fullLayout?.xaxis;
    if (!axis?._length || !this.context) return;
    const { view } = this.context;
    const { t, h } = this.plot._fullLayout._size;
    const [from, to] = axis.range.map((wall) => epochOf(wall, this.context.offset));
    const place = {
      left: axis._offset, width: axis._length, top: t, height: h,
      end: viewEnd(view), isLive: view.live !== null,
      x: (at) => ((at - from) / (to - from)) * axis._length,
    };
    this.strip?.place(place);
    this.marks.place(place);
    this.ends.place(place, this.plot);
  }

  // The reader may have zoomed the values, or put out a curve.
  fitTicks() {
    const axis = this.plot._fullLayout?.yaxis;
    if (!axis || this.panel.kind !== "latency") return;
    const ticks = durationTicks(...axisEnds(axis), axis.type === "log");
    if (String(ticks.ticktext) === String(this.plot.layout.yaxis.ticktext)) return;
    this.silent += 1;
    Plotly.relayout(this.plot, {
      "yaxis.tickvals": ticks.tickvals, "yaxis.ticktext": ticks.ticktext,
    }).finally(() => { this.silent -= 1; });
  }

  listen() {
    if (this.listening) return;
    this.listening = true;
    this.plot.on("plotly_relayout", (change) => {
      if (this.silent) return;
      const range = this.plot._fullLayout.xaxis.range;
      if ("xaxis.range[0]" in change || "xaxis.range" in change) {
        this.events.onZoom(range.map((wall) => epochOf(wall, this.context.offset)));
      }
    });
    this.plot.on("plotly_afterplot", () => {
      this.fitTicks();
      this.overlay();
    });
    this.plot.on("plotly_relayouting", () => this.overlay());
    this.plot.on("plotly_doubleclick", () => this.events.onReset());
    this.plot.on("plotly_hover", (event) => {
      if (this.silent || !event.points?.length) return;
      this.events.onHover(this, epochOf(event.points[0].x, this.context.offset));
    });
    this.plot.on("plotly_unhover", () => {
      if (!this.silent) this.events.onUnhover(this);
    });
  }

  // Shows the same instant as the chart under the pointer.
  echo(epochSeconds) {
    this.point(epochSeconds);
    if (!this.listening) return;
    this.silent += 1;
    try {
      if (epochSeconds === null) Plotly.Fx.unhover(this.plot);
      else {
        const xval = Date.parse(`${wallText(epochSeconds, this.context.offset).replace(" ", "T")}Z`);
        Plotly.Fx.hover(this.plot, { xval, yval: this.plot._fullLayout.yaxis.range[1] }, "xy");
      }
    } finally {
      this.silent -= 1;
    }
  }

  point(epochSeconds) {
    this.pointedAt = epochSeconds ?? null;
    const axis = this.plot._fullLayout?.xaxis;
    const wall = this.pointedAt === null ? null : wallText(this.pointedAt, this.context.offset);
    const at = wall === null || !axis ? -1 : axis.d2p(wall);
    const inside = axis && at >= 0 && at <= axis._length;
    this.crosshair.hidden = !inside;
    if (inside) {
      const { t, h } = this.plot._fullLayout._size;
      this.crosshair.style.left = `${axis._offset + at}px`;
      this.crosshair.style.top = `${t}px`;
      this.crosshair.style.height = `${h}px`;
    }
  }

  // The axes back to the whole window; a zoom in the value axis is undone too.
  async reset() {
    await this.drawn;
    if (!this.listening) return;
    this.silent += 1;
    const { offset, view } = this.context;
    await Plotly.relayout(this.plot, {
      "xaxis.range": [wallText(view.from, offset), wallText(viewEnd(view), offset)],
      "yaxis.autorange": true,
    });
    this.silent -= 1;
  }

  async zoomTo([from, to]) {
    await this.drawn;
    if (!this.listening) return;
    this.silent += 1;
    const { offset } = this.context;
    await Plotly.relayout(this.plot, {
      "xaxis.range": [wallText(from, offset), wallText(to, offset)],
    });
    this.silent -= 1;
  }

  resized() {
    const { width, height } = this.paper ?? this.place;
    if (!this.listening || !width || (width === this.width && height === this.height)) return;
    this.width = width;
    this.height = height;
    this.silent += 1;
    Plotly.relayout(this.plot, { width, height })
      .finally(() => { this.silent -= 1; });
  }
}
