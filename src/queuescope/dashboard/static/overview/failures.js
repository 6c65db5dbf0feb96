// The failures of the last day: the largest groups and the latest single jobs. Their messages come
// from jobs and are set as text.
import { named, part, textElement } from "../ui/elements.js";
import { isAway } from "../ui/states.js";
import { capital, counted, sentence } from "../ui/text.js";
import { ageText } from "../ui/time.js";

/** @import { FailedJob, FailureGroup, FailuresAnswer, State } from "../answers.d.ts" */
/** @import { PageContext } from "./overview.js" */

export class Failures {
  /** @param {HTMLElement} section @param {PageContext} page */
  constructor(section, page) {
    this.section = section;
    this.page = page;
    this.groups = named(section, "failed-groups");
    this.jobs = named(section, "failed-jobs");
  }

  /**
   * @param {FailuresAnswer | null | undefined} failures
   * @param {string} problem why our own server does not answer
   */
  show(failures, problem) {
    if (!failures && !problem) return;
    const { section, page } = this;
    /** @type {State} */
    const state = problem || !failures ? (failures ? "stale" : "unavailable") : failures.state;
    section.removeAttribute("aria-busy");
    section.dataset.state = state;
    const badge = part(section, ".qs-badge");
    const age = failures?.asOf ? `, ${ageText(page.now() - failures.asOf)} old` : "";
    badge.textContent = state === "stale" ? `stale${age}` : state === "unavailable" ? "unavailable" : "";
    badge.hidden = !badge.textContent;
    const cause = part(section, ".qs-cause");
    cause.textContent = isAway(state) ? problem || this.#cause(failures) : "";
    cause.hidden = !cause.textContent;
    part(section, ".qs-counted").textContent = countedWords(failures);
    const none = state === "unavailable" ? [] : [textElement("li", "No job failed in the last 24 hours.", "qs-none")];
    const groups = (failures?.groups ?? []).map((group) => this.#group(group));
    fill(this.groups, groups.length ? groups : none);
    fill(this.jobs, (failures?.last ?? []).map((job) => this.#job(job)));
  }

  /** @param {FailuresAnswer | null | undefined} failures */
  #cause(failures) {
    if (!failures?.cause) return "";
    const since = failures.since ? `, since ${this.page.moment(failures.since)}` : "";
    return sentence(capital(failures.cause + since));
  }

  /** @param {FailureGroup} group */
  #group(group) {
    const more = group.tenantCount - 2;
    const tenants = group.tenants.slice(0, 2).join(", ") + (more > 0 ? ` and ${more} more` : "");
    return this.#item(
      `group=${encodeURIComponent(group.id)}`, headline(group), `${group.count.toLocaleString("en-US")} ×`,
      patternElement(group.pattern), `${tenants} · last ${this.page.moment(group.lastAt)}`,
    );
  }

  /** @param {FailedJob} job */
  #job(job) {
    return this.#item(
      `find=${job.find}`, headline(job), this.page.moment(job.at),
      textElement("span", job.message), job.tenant,
    );
  }

  /** @param {string} query @param {string} title @param {string} right @param {HTMLElement} below @param {string} belowRight */
  #item(query, title, right, below, belowRight) {
    const item = document.createElement("li");
    const link = textElement("a", title);
    link.href = `${this.page.base}/jobs?${query}`;
    link.title = title;
    below.title = below.textContent ?? "";
    item.append(link, textElement("span", right), below, textElement("span", belowRight));
    return item;
  }
}

/** @param {HTMLElement} list @param {HTMLElement[]} items */
function fill(list, items) {
  const focused = [...list.querySelectorAll("a")].findIndex((link) => link === document.activeElement);
  list.replaceChildren(...items);
  list.querySelectorAll("a")[focused]?.focus({ preventScroll: true });
}

/** @param {FailuresAnswer | null | undefined} failures */
export function countedWords(failures) {
  if (!failures?.count) return "last 24 h";
  const least = failures.isWhole ? "" : "at least ";
  return `last 24 h: ${least}${failures.count.toLocaleString("en-US")} of ${counted(failures.groupCount, "kind")}`;
}

/** Words, the name of what varies after them, words, and so on. @param {string[]} parts */
function patternElement(parts) {
  const element = document.createElement("span");
  element.append(...parts.map((text, n) => (n % 2 === 0 ? text : textElement("i", text, "qs-hole"))));
  return element;
}

/** @param {{ name: string, error: string, status?: string }} failure */
function headline({ name, error, status }) {
  const what = error || (status === "lost" ? "lost" : "");
  return what ? `${name} · ${what}` : name;
}
