// The live end of each curve: a dot at its value now, which moves with each refresh until the point of
// the whole step is there in its place. A value that is known only to lie between two bounds is a bar
// from one to the other, and a thin line leads to the worst of the open step so far.

const END_RADIUS = 4;

// Until when the charts of a view tell of it.
function viewEnd(view) {
  return view.live ?? view.to;
}

const WORST = { count: "highest", percent: "lowest", latency: "all" };

function liveWords({ at, from, over, soFarWords }, kind) {
  const what = over ? `, the last ${over}` : ", now";
  return soFarWords
    ? `${what}<br>${WORST[kind]} of the last ${durationText(at - from)}: ${soFarWords}` : what;
}

// `live` with another figure of now, which may be worse than the open step so far.
function withFigure(live, end, kind) {
  const worst = end.between ? end.between[1] ?? Infinity : end.value;
  const isWorse = live.soFar !== null && (kind === "percent" ? live.soFar < worst : live.soFar > worst);
  return { ...live, ...end, ...(isWorse ? {} : { soFar: null, soFarWords: "" }) };
}

// What the value axis has to hold of them beyond the curves.
function endExtremes(ends) {
  return ends.flatMap((end) => [end?.soFar, ...(end?.between ?? [])])
    .filter((value) => Number.isFinite(value));
}

class LiveEnds {
  constructor(canvas) {
    this.ends = [];
    this.svg = svgElement("svg", { class: "qs-ends", "aria-hidden": "true" });
    canvas.append(this.svg);
  }

  // `ends`: [{ uid, end }], in the order of the traces; for `end` see `decodeTraces`.
  show(ends) {
    this.ends = ends;
  }

  // Over the axes as they stand now; a curve that the reader has put out has no end either.
  place({ left, top, width, height, x }, plot) {
    const axis = plot._fullLayout.yaxis;
    this.svg.style.left = `${left}px`;
    this.svg.style.top = `${top}px`;
    this.svg.setAttribute("width", String(width));
    this.svg.setAttribute("height", String(height));
    const dots = [];
    const open = this.ends.find(({ end }) => end)?.end;
    const inside = (at) => Math.min(width, Math.max(0, x(at)));
    // The open step has a ground of its own, so that its value is not taken for that of a whole one.
    if (open && inside(open.at) > inside(open.from)) {
      const [from, to] = [inside(open.from), inside(open.at)];
      dots.push(svgElement("rect", { x: from.toFixed(1), y: 0, width: (to - from).toFixed(1), height }));
    }
    for (const trace of plot._fullData) {
      const end = this.ends.find(({ uid }) => uid === trace.uid)?.end;
      if (!end || trace.visible !== true) continue;
      const cx = x(end.at);
      if (cx < 0 || cx > width + 1) continue;
      const drawn = (value) => axis.d2p(axis.type === "log" ? Math.max(value, LEAST_MS) : value);
      const y = (value) => Math.min(height, Math.max(0, value === null ? 0 : drawn(value)));
      const line = (from, to, kind) => {
        const place = { x1: cx.toFixed(1), x2: cx.toFixed(1), y1: y(from).toFixed(1), y2: y(to).toFixed(1) };
        const bar = svgElement("line", { ...place, class: kind });
        bar.style.stroke = trace.line.color;
        dots.push(bar);
      };
      if (end.soFar !== null) line(end.value, end.soFar, "qs-so-far");
      if (end.between) {
        line(...end.between, "qs-between");
        continue;
      }
      const cy = drawn(end.value);
      if (cy < -1 || cy > height + 1) continue;
      const dot = svgElement("circle", { cx: cx.toFixed(1), cy: cy.toFixed(1), r: END_RADIUS });
      dot.style.stroke = trace.line.color;
      dots.push(dot);
    }
    this.svg.replaceChildren(...dots);
  }
}
