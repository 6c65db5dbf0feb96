// The data sources of the page and their states; each can fail on its own.
import { named, part, textElement } from "../ui/elements.js";
import { capital, counted, sentence } from "../ui/text.js";
import { ageText } from "../ui/time.js";

/** @import { OverviewAnswer, Source } from "../answers.d.ts" */
/** @import { PageContext } from "./overview.js" */

export class Sources {
  /** @param {HTMLElement} root @param {PageContext} page */
  constructor(root, page) {
    this.page = page;
    this.box = named(root, "sources");
  }

  /** @param {OverviewAnswer | null} content @param {string} problem why our own server does not answer */
  show(content, problem) {
    const sources = content?.sources ?? [];
    const away = sources.filter((source) => problem || source.state !== "fresh").length;
    this.box.hidden = !sources.length;
    this.box.dataset.tone = away ? "bad" : "note";
    part(this.box, "summary").textContent = away ? `${counted(away, "source")} away` : counted(sources.length, "source");
    part(this.box, "ul").replaceChildren(...sources.map((source) => this.#item(source, problem)));
  }

  /** @param {Source} source @param {string} problem */
  #item(source, problem) {
    const state = problem ? "not known" : source.state;
    const item = document.createElement("li");
    item.dataset.source = source.id;
    item.dataset.state = state;
    item.append(
      textElement("strong", `${source.title}: ${state}`),
      ...sourceSentences(source, problem, this.page).map((text) => textElement("span", text, "qs-muted")),
    );
    return item;
  }
}

/**
 * What is said of a source below its name and state.
 * @param {Source} source @param {string} problem @param {Pick<PageContext, "moment" | "now">} page
 */
export function sourceSentences(source, problem, page) {
  const isFresh = source.state === "fresh" && !problem;
  const said = [];
  if (problem) said.push(problem);
  else if (!isFresh) {
    const since = source.since ? `, since ${page.moment(source.since)}` : "";
    said.push(sentence(`${capital(source.cause)}${since}`));
  }
  if (source.asOf) {
    const old = isFresh ? "" : `, ${ageText(page.now() - source.asOf)} old`;
    said.push(`As of ${page.moment(source.asOf)}${old}.`);
  }
  if (source.kind && source.state !== "fresh") said.push(`Kind: ${source.kind}.`);
  said.push(...source.notes);
  if (source.measures.length) said.push(`Source of: ${source.measures.join(", ")}.`);
  return said;
}
