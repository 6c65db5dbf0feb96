// The alerts that are active now.
import { named, part, textElement } from "../ui/elements.js";
import { counted, sentence } from "../ui/text.js";
import { chartButton } from "./card.js";

/** @import { Alert, OverviewAnswer } from "../answers.d.ts" */
/** @import { PageContext } from "./overview.js" */

/**
 * How many there are, in words.
 * @param {Alert[]} alerts
 */
export function alertCounts(alerts) {
  const firing = alerts.filter((alert) => alert.state === "firing").length;
  const pending = alerts.length - firing;
  const parts = [];
  if (firing) parts.push(`${counted(firing, "alert")} firing`);
  if (pending) parts.push(`${pending} pending`);
  return parts.length ? parts.join(", ") : "no alerts";
}

export class Alerts {
  /** @param {HTMLElement} root @param {PageContext} page */
  constructor(root, page) {
    this.page = page;
    this.box = named(root, "alerts", HTMLDetailsElement);
  }

  /** @param {OverviewAnswer | null} content @param {string} problem why our own server does not answer */
  show(content, problem) {
    const alerts = content?.alerts ?? [];
    const state = content?.alertsState ?? "unavailable";
    this.box.hidden = state === "idle" && !problem;
    this.box.dataset.tone = alerts.some((alert) => alert.state === "firing") ? "bad" : "note";
    const isOld = state === "stale" || problem;
    const asOf = isOld && content?.alertsAsOf ? `, as of ${this.page.moment(content.alertsAsOf)}` : "";
    part(this.box, "summary").textContent = state === "unavailable" ? "alerts not known" : alertCounts(alerts) + asOf;
    const items = alerts.map((alert) => this.#item(alert));
    if (content?.alertsMore) items.push(textElement("li", `and ${content.alertsMore} more in Prometheus`));
    if (content?.alertsCause) items.push(textElement("li", sentence(content.alertsCause)));
    part(this.box, "ul").replaceChildren(...items);
  }

  /** @param {Alert} alert */
  #item(alert) {
    const item = document.createElement("li");
    const rest = [
      alert.summary ? alert.name : "", alert.state, alert.severity,
      alert.since ? `since ${this.page.moment(alert.since)}` : "",
      ...Object.entries(alert.labels).map(([label, value]) => `${label}=${value}`),
    ];
    item.append(
      textElement("strong", alert.summary || alert.name),
      textElement("span", rest.filter(Boolean).join(" · "), "qs-muted"),
    );
    if (alert.panel) {
      item.append(chartButton(() => {
        this.box.open = false;
        this.page.reveal(alert.panel);
      }));
    }
    return item;
  }
}
