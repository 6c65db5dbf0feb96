// The failures of the last day: the biggest groups and the last single ones. Their texts come from
// jobs and are set as text.

class Failures {
  // `page` tells the reader's zone, the clock of the charts and the base address.
  constructor(section, page) {
    this.section = section;
    this.page = page;
    this.groups = section.querySelector('[data-qs="failed-groups"]');
    this.jobs = section.querySelector('[data-qs="failed-jobs"]');
  }

  // `problem` says why our own server does not answer.
  show(failures, problem) {
    if (!failures && !problem) return;
    const { section, page } = this;
    const state = problem ? (failures ? "stale" : "unavailable") : failures.state;
    section.removeAttribute("aria-busy");
    section.dataset.state = state;
    const badge = section.querySelector(".qs-badge");
    const age = failures?.asOf ? `, ${ageText(page.now() - failures.asOf)} old` : "";
    badge.textContent = state === "stale" ? `stale${age}` : state === "unavailable" ? "unavailable" : "";
    badge.hidden = !badge.textContent;
    const cause = section.querySelector(".qs-cause");
    const since = failures?.since && !problem ? `, since ${page.moment(failures.since)}` : "";
    const why = problem || (failures.cause && sentence(capital(failures.cause + since)));
    cause.textContent = ["stale", "unavailable"].includes(state) ? why : "";
    cause.hidden = !cause.textContent;
    section.querySelector(".qs-counted").textContent = this.counted(failures);
    this.fill(this.groups, (failures?.groups ?? []).map((group) => this.group(group)), state, true);
    this.fill(this.jobs, (failures?.last ?? []).map((job) => this.job(job)), state, false);
  }

  counted(failures) {
    if (!failures?.count) return "last 24 h";
    const kinds = failures.groupCount === 1 ? "1 kind" : `${failures.groupCount.toLocaleString("en-US")} kinds`;
    const least = failures.isWhole ? "" : "at least ";
    return `last 24 h: ${least}${failures.count.toLocaleString("en-US")} of ${kinds}`;
  }

  fill(list, items, state, speaks) {
    const focused = list.contains(document.activeElement)
      ? [...list.querySelectorAll("a")].indexOf(document.activeElement) : -1;
    if (!items.length && speaks && state !== "unavailable") {
      const none = document.createElement("li");
      none.className = "qs-none";
      none.textContent = "No job failed in the last 24 hours.";
      items.push(none);
    }
    list.replaceChildren(...items);
    list.querySelectorAll("a")[focused]?.focus({ preventScroll: true });
  }

  group(group) {
    const more = group.tenantCount - 2;
    const tenants = group.tenants.slice(0, 2).join(", ") + (more > 0 ? ` and ${more} more` : "");
    return this.item(
      `group=${encodeURIComponent(group.id)}`, headline(group), `${group.count.toLocaleString("en-US")} ×`,
      patternElement(group.pattern), `${tenants} · last ${this.page.moment(group.lastAt)}`,
    );
  }

  job(job) {
    return this.item(
      `find=${job.find}`, headline(job), this.page.moment(job.at),
      textElement("span", job.message), job.tenant,
    );
  }

  item(query, title, right, below, belowRight) {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = `${this.page.base()}/jobs?${query}`;
    link.textContent = title;
    link.title = title;
    below.title = below.textContent;
    item.append(link, textElement("span", right), below, textElement("span", belowRight));
    return item;
  }
}

// Words, the name of what varies after them, words, and so on.
function patternElement(parts) {
  const element = document.createElement("span");
  element.append(...parts.map((part, number) => {
    if (number % 2 === 0) return part;
    const variable = textElement("i", part);
    variable.className = "qs-hole";
    return variable;
  }));
  return element;
}

function headline({ name, error, status }) {
  const what = error || (status === "lost" ? "lost" : "");
  return what ? `${name} · ${what}` : name;
}
