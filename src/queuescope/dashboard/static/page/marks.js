// What happened at an instant, on the charts: operators' acts, and alerts where they began. Marks
// that would cover each other are one, with their count. All words are set as text.

const MARK_DISTANCE = 16;
const MARK_WORDS = 6;

function actWords(act, moment) {
  const result = { done: "done", failed: "failed", pending: "not ended yet", unknown: "not known whether it happened" }[act.result] ?? act.result;
  const detail = act.result === "done" || !act.detail ? "" : ` ${sentence(act.detail)}`;
  return `${moment}  ${act.actor}: ${act.words}, ${result}.${detail}`;
}

// What an alert is known by beside its name; its severity where others of that name have another.
function alertLabels(alert, all) {
  const differs = all.some((one) => one.name === alert.name && one.severity !== alert.severity);
  const severity = differs && alert.severity ? { severity: alert.severity } : {};
  return Object.entries({ ...severity, ...alert.labels }).map(([name, value]) => `${name}=${value}`).join(", ");
}

// `all` are the alerts of the chart: one that shares its name with others tells its labels.
function alertWords(alert, moment, all) {
  const summary = alert.summary ? `: ${alert.summary}` : "";
  const isAlone = all.every((one) => one === alert || one.name !== alert.name);
  const labels = isAlone ? "" : alertLabels(alert, all);
  return sentence(`${moment}  alert ${alert.name} began and is ${alert.state}${labels ? ` (${labels})` : ""}${summary}`);
}

function pastAlertWords(alert, from, to, all) {
  const labels = alertLabels(alert, all);
  const what = alert.state === "firing" ? "fired" : "was pending";
  return sentence(`${from}  alert ${alert.name} began; it ${what} until ${to}${labels ? `: ${labels}` : ""}`);
}

// What Prometheus recorded of an alert that is active: the one of the same labels, or, as what is
// recorded may have more labels of the server that did, those that have all of them.
function recordsOf({ name, severity, labels, since }, recorded) {
  const same = recorded.filter((one) => one.name === name && one.severity === severity
    && Math.abs(one.since - since) < 1
    && Object.entries(labels).every(([label, value]) => one.labels[label] === value));
  const count = Object.keys(labels).length;
  const exact = same.filter((one) => Object.keys(one.labels).length === count);
  return exact.length ? exact : same;
}

// What a reader of the marks must know of those that are not there.
function actsNote(acts, moment) {
  if (!acts || ["fresh", "idle"].includes(acts.state)) return "";
  if (acts.state === "stale") return `Operators’ acts since ${moment(acts.asOf)} are not known: the audit does not answer.`;
  return "Operators’ acts are not known: the audit does not answer.";
}

class Marks {
  // `reachable` says that the marks can be reached by keyboard; on one chart is enough.
  constructor(canvas, reachable) {
    this.reachable = reachable;
    this.marks = [];
    this.box = document.createElement("div");
    this.box.className = "qs-marks";
    this.tip = document.createElement("div");
    this.tip.className = "qs-mark-tip";
    this.tip.setAttribute("role", "tooltip");
    this.tip.hidden = true;
    canvas.append(this.box, this.tip);
    this.box.addEventListener("pointerover", (event) => this.open(event.target.closest("button")));
    this.box.addEventListener("pointerout", () => this.open(this.box.querySelector("button:focus-visible")));
    // A mark that moves loses the focus and is given it back; what a reader closed stays closed.
    this.closed = null;
    this.box.addEventListener("focusin", (event) => {
      if (event.target !== this.closed) this.open(event.target);
    });
    this.box.addEventListener("focusout", (event) => {
      if (event.relatedTarget) this.closed = null;
      this.open(null);
    });
    this.box.addEventListener("click", (event) => this.open(event.target.closest("button")));
    canvas.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      this.closed = this.box.querySelector("button:focus");
      this.open(null);
    });
  }

  // `marks`: [{ at (epoch seconds), kind: "act" | "alert", words }], oldest first. What lasted has
  // `until`, null while it goes on.
  show(marks) {
    this.marks = marks;
  }

  // `end` is up to when the axis tells of: where that is the present (`isLive`), what happened since
  // stands at its right edge.
  place({ left, top, width, height, x, end, isLive }) {
    const found = [];
    for (const mark of this.marks) {
      const isNewer = mark.at > end;
      const at = isNewer ? (isLive && x(end) <= width + 1 ? width : NaN) : x(mark.at);
      if (!(at >= 0 && at <= width)) continue;
      const last = found.at(-1);
      if (last && at - last.first < MARK_DISTANCE) {
        last.marks.push(mark);
        last.at = (last.first + at) / 2;
      } else found.push({ first: at, at, marks: [mark] });
    }
    const inside = (at) => Math.min(width, Math.max(0, x(at)));
    const spans = this.marks.filter((mark) => mark.until !== undefined)
      .map((mark) => ({ from: inside(mark.at), to: inside(Math.min(mark.until ?? end, end)), mark }))
      .filter(({ from, to }) => to > from);
    const key = JSON.stringify([left, top, width, height, found.map(({ at, marks }) => [Math.round(at), marks.map((mark) => mark.words)]), spans.map(({ from, to, mark }) => [Math.round(from), Math.round(to), mark.words])]);
    if (key === this.placed) return;
    this.placed = key;
    Object.assign(this.box.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
    const buttons = () => [...this.box.querySelectorAll("button")];
    const focused = buttons().indexOf(document.activeElement);
    const isClosed = this.closed !== null && buttons()[focused] === this.closed;
    this.box.replaceChildren(
      ...spans.map((span) => this.spanElement(span)), ...found.map((cluster) => this.element(cluster)),
    );
    this.tip.hidden = true;
    const again = buttons()[focused] ?? null;
    this.closed = isClosed ? again : null;
    again?.focus({ preventScroll: true });
  }

  // From begin to end, be it cut off by the edges of the range.
  spanElement({ from, to, mark }) {
    const element = document.createElement("div");
    element.className = "qs-span";
    element.dataset.state = mark.state;
    element.setAttribute("role", "img");
    element.setAttribute("aria-label", mark.words);
    element.title = mark.words;
    Object.assign(element.style, { left: `${from}px`, width: `${Math.max(2, to - from)}px` });
    return element;
  }

  element({ at, marks }) {
    const element = document.createElement("div");
    element.className = "qs-mark";
    element.style.left = `${at}px`;
    element.dataset.kind = marks.some((mark) => mark.kind === "alert") ? "alert" : "act";
    const button = document.createElement("button");
    button.type = "button";
    button.tabIndex = this.reachable || element.dataset.kind === "alert" ? 0 : -1;
    if (marks.length > 1) button.dataset.count = String(marks.length);
    button.setAttribute("aria-label", marks.map((mark) => mark.words).join("; ").slice(0, 1000));
    button.marks = marks;
    element.append(button);
    return element;
  }

  open(button) {
    this.tip.hidden = !button?.marks;
    if (this.tip.hidden) return;
    this.closed = null;
    // The newest say most of how it stands now.
    const shown = button.marks.slice(-MARK_WORDS);
    const lines = shown.map((mark) => textElement("p", mark.words));
    const more = button.marks.length - shown.length;
    if (more) lines.unshift(textElement("p", `${more} before these`));
    this.tip.replaceChildren(...lines);
    const canvas = this.box.parentElement.getBoundingClientRect();
    const at = button.getBoundingClientRect();
    const left = at.left + at.width / 2 - canvas.left - this.tip.offsetWidth / 2;
    this.tip.style.left = `${Math.max(0, Math.min(left, canvas.width - this.tip.offsetWidth))}px`;
    this.tip.style.top = `${at.bottom - canvas.top + 6}px`;
  }
}

function textElement(name, text) {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}
