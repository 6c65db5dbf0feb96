// The strip above the depth: how arrival went against completion, in cells that are told apart by
// their shape. It lies over the chart and is none of Plotly's curves.

const FLOW_WORDS = {
  e: "nothing waits", c: "clearing", s: "steady", g: "growing",
  w: "none completed yet", x: "stalled",
};
// [top, bottom] of a cell within the strip's ten pixels: growing stands above the middle line,
// clearing hangs below it, steady keeps to it, and a stall fills all.
const FLOW_CELLS = { g: [0, 4.5], c: [5.5, 10], s: [4, 6], w: [4, 6], x: [0, 10] };
const STRIP_HEIGHT = 10;
const STRIP_TOP = 4;

// A flow as the server tells it, with its numbers unpacked; null when there is none.
function decodeFlow(answer) {
  if (!answer?.states) return null;
  return {
    ...answer,
    to: answer.from + (answer.states.length - 1) * answer.step,
    arrived: decodeValues(answer.arrivedPerMinute),
    completed: decodeValues(answer.completedPerMinute),
  };
}

// What is said of the step that ends at `at` (epoch seconds); nothing where nothing is known.
function flowWords(flow, at) {
  const n = Math.round((at - flow.from) / flow.step);
  const words = FLOW_WORDS[flow.states[n]];
  if (!words || Math.abs(flow.from + n * flow.step - at) > 0.5) return "";
  const rate = (value) => (value === null ? "?" : value >= 10 || value === 0 ? Math.round(value) : value.toFixed(1));
  return `${words}: ${rate(flow.arrived[n])} arrived, ${rate(flow.completed[n])} completed a minute`
    + ` in ${flow.windowWords[flow.windows[n]]}`;
}

function svgElement(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// What the shapes mean, in the words of the strip's reader.
function fillKey(key) {
  for (const [state, words] of [["g", "grows"], ["c", "clears"], ["x", "stalls"]]) {
    const [top, bottom] = FLOW_CELLS[state];
    const icon = svgElement("svg", { width: 10, height: STRIP_HEIGHT, "aria-hidden": "true" });
    icon.append(
      svgElement("path", { d: "M0 5H10", class: "qs-strip-line" }),
      svgElement("path", { d: `M0 ${top}H10V${bottom}H0Z`, class: `qs-strip-${state}` }),
    );
    const item = document.createElement("span");
    item.append(icon, words);
    key.append(item);
  }
}

class Strip {
  constructor(canvas, key) {
    this.key = key;
    fillKey(key);
    this.flows = [];
    this.svg = svgElement("svg", { class: "qs-strip", role: "img", height: STRIP_HEIGHT });
    this.line = this.path("qs-strip-line");
    this.cells = Object.fromEntries(Object.keys(FLOW_CELLS).map((state) => [state, this.path(`qs-strip-${state}`)]));
    // Below the curves, and below what Plotly shows on hover.
    canvas.prepend(this.svg);
    this.show([]);
  }

  path(name) {
    const path = svgElement("path", { class: name });
    this.svg.append(path);
    return path;
  }

  // `flows` from coarse to fine: where they overlap the finer one counts.
  show(flows) {
    this.flows = flows.filter(Boolean);
    this.key.hidden = !this.flows.length;
    this.svg.style.display = this.flows.length ? "" : "none";
    const newest = this.flows.at(-1);
    if (newest) {
      const last = [...newest.states].findLastIndex((state) => state !== "-");
      const words = last < 0 ? "" : flowWords(newest, newest.from + last * newest.step);
      this.svg.setAttribute("aria-label", `Arrival against completion. Last: ${words || "not known"}`);
      this.svg.dataset.states = this.flows[0].states;
      this.svg.dataset.steps = this.flows.map((flow) => flow.step).join(" ");
    }
  }

  textAt(at) {
    for (const flow of [...this.flows].reverse()) {
      const words = flowWords(flow, at);
      if (words) return words;
    }
    return "";
  }

  // Over the axis as it stands now; `x` is where an instant lies on it.
  place({ left, width, x }) {
    if (!this.flows.length) return;
    this.svg.style.left = `${left}px`;
    this.svg.style.top = `${STRIP_TOP}px`;
    this.svg.setAttribute("width", String(width));
    const drawn = Object.fromEntries(Object.keys(FLOW_CELLS).map((state) => [state, ""]));
    let known = "";
    const inside = (at) => Math.min(width, Math.max(0, x(at)));
    const cell = (state, from, to) => {
      const [a, b] = [inside(from), inside(to)];
      if (b - a <= 0 || state === "-") return;
      known += `M${a.toFixed(1)} 5H${b.toFixed(1)}`;
      if (!(state in FLOW_CELLS)) return;
      const [top, bottom] = FLOW_CELLS[state];
      drawn[state] += `M${a.toFixed(1)} ${top}H${b.toFixed(1)}V${bottom}H${a.toFixed(1)}Z`;
    };
    const [coarse, fine] = this.flows;
    // The step that ends with the fine flow's first point is the coarse one's.
    const spared = fine ? [fine.from, fine.to] : null;
    for (const flow of this.flows) {
      let run = null;
      const close = () => run && cell(...run);
      for (let n = 0; n < flow.states.length; n += 1) {
        const to = flow.from + n * flow.step;
        const from = to - flow.step;
        const parts = flow === coarse && spared
          ? [[from, Math.min(to, spared[0])], [Math.max(from, spared[1]), to]]
          : [[from, to]];
        for (const [a, b] of parts) {
          if (b <= a) continue;
          if (run && run[0] === flow.states[n] && run[2] === a) run[2] = b;
          else {
            close();
            run = [flow.states[n], a, b];
          }
        }
      }
      close();
    }
    this.line.setAttribute("d", known);
    for (const [state, path] of Object.entries(this.cells)) path.setAttribute("d", drawn[state]);
  }
}
