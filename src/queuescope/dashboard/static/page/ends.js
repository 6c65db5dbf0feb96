// The live end of each curve: the step that is still open is a dot at its value so far, which moves
// with each refresh until the point of the whole step is there in its place.

const END_RADIUS = 4;

// Until when the charts of a view tell of it.
function viewEnd(view) {
  return view.live ?? view.to;
}

function liveWords({ at, from }) {
  return `, so far in the last ${durationText(at - from)}`;
}

class LiveEnds {
  constructor(canvas) {
    this.ends = [];
    this.svg = svgElement("svg", { class: "qs-ends", "aria-hidden": "true" });
    canvas.append(this.svg);
  }

  // `ends`: [{ uid, end: { at, value } | null }], in the order of the traces.
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
      const [cx, cy] = [x(end.at), axis.d2p(end.value)];
      if (cx < 0 || cx > width + 1 || cy < -1 || cy > height + 1) continue;
      const dot = svgElement("circle", { cx: cx.toFixed(1), cy: cy.toFixed(1), r: END_RADIUS });
      dot.style.stroke = trace.line.color;
      dots.push(dot);
    }
    this.svg.replaceChildren(...dots);
  }
}
