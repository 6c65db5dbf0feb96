// The page on paper: light, with the charts as wide as the paper.

// For browsers that make their copy of the page before they tell how wide the paper is: what A4 and
// Letter both have room for at the size of print (see print.css).
const PAPER = { width: 840, height: 145 };

// Calls `print` with what the charts are drawn for: "paper" where its width is not known yet, "sheet"
// where the page is laid out for it, null for the screen again.
function followPrinting(print) {
  const media = matchMedia("print");
  addEventListener("beforeprint", () => print("paper"));
  media.addEventListener("change", () => print(media.matches ? "sheet" : null));
  addEventListener("afterprint", () => print(null));
}

const DASHES = { dash: "5 4", dot: "2 3", dashdot: "5 3 2 3" };

function legendEntry({ name, line }) {
  const entry = document.createElement("span");
  const sign = svgElement("svg", { width: 22, height: 10, "aria-hidden": "true" });
  const stroke = svgElement("line", { x1: 0, x2: 22, y1: 5, y2: 5, "stroke-dasharray": DASHES[line.dash] ?? "none" });
  // The figure's colours are the theme's.
  stroke.style.stroke = line.color;
  sign.append(stroke);
  entry.append(sign, plainText(name));
  return entry;
}

// What a sheet says of itself, as it has no controls: of when it is, in which zone, and how old.
// `shown` is { view, by, zoom, zone, offset, stepWords, asOf, now }.
function printedWords({ view, by, zoom, zone, offset, stepWords, asOf, now }) {
  const moment = (at) => wallText(at, offset);
  const [from, to] = zoom ?? [view.from, viewEnd(view)];
  const range = view.range && !zoom ? `The last ${view.range}: ` : "";
  const first = `${range}${moment(from)} to ${moment(to)}, a point every ${stepWords}.`;
  const words = [`Times are in ${zone === "UTC" ? "UTC" : `${zone} (${offsetWords(offset)})`}.`];
  if (by) words.push(`Broken down by ${by}.`);
  words.push(asOf === null ? "There are no data."
    : `Data as of ${moment(asOf)}, ${durationText(now - asOf)} old when printed.`);
  return `${first}\n${words.join(" ")}`;
}
