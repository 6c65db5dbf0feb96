// The health verdict with its reasons, and the forecast of the queue.
import { named, part, textElement } from "../ui/elements.js";

/** @import { Finding, OverviewAnswer } from "../answers.d.ts" */
/** @import { PageContext } from "./overview.js" */

export class Verdict {
  /** @param {HTMLElement} root @param {PageContext} page */
  constructor(root, page) {
    this.page = page;
    this.box = named(root, "verdict");
    this.health = named(root, "health");
    this.reason = named(root, "reason");
    this.outlook = named(root, "outlook");
    this.findings = named(root, "findings");
  }

  /** @param {OverviewAnswer | null} content @param {string} problem why our own server does not answer */
  show(content, problem) {
    const known = problem ? null : content;
    this.box.dataset.verdict = known ? known.verdict.state : "unknown";
    this.health.textContent = known ? `${known.verdict.words}:` : "Unknown:";
    this.reason.textContent = known ? this.#because(known.verdict) : problem;
    this.#showOutlook(known?.drain);
    const more = known ? known.verdict.findings.slice(1) : [];
    this.findings.hidden = !more.length;
    part(this.findings, "summary").textContent = `and ${more.length} more`;
    part(this.findings, "ul").replaceChildren(...more.map((finding) => {
      const item = document.createElement("li");
      item.append(textElement("strong", `${finding.state}: `), this.#because(finding));
      return item;
    }));
  }

  /** @param {OverviewAnswer["drain"] | undefined} drain */
  #showOutlook(drain) {
    const { outlook } = this;
    outlook.dataset.drain = drain ? drain.state : "unknown";
    outlook.textContent = drain ? drain.words : "";
    // The box has a fixed size: the outlook gets the lines that the reason leaves.
    outlook.hidden = false;
    const box = /** @type {HTMLElement} */ (outlook.parentElement);
    const reason = /** @type {HTMLElement} */ (box.firstElementChild);
    const lineHeight = parseFloat(getComputedStyle(outlook).lineHeight);
    const lines = Math.floor((box.clientHeight - reason.offsetHeight) / lineHeight);
    outlook.hidden = lines < 1;
    outlook.style.webkitLineClamp = String(Math.max(1, lines));
  }

  /**
   * The rules look at a quarter of an hour, so times are shown without seconds.
   * @param {Pick<Finding, "reason">} finding
   */
  #because(finding) {
    return `${this.page.words(finding.reason, (at) => this.page.moment(at).slice(0, -3))}.`;
  }
}
