// What stands in the page's place for who may not look, or may not look any more.
import { textElement } from "./elements.js";
import { currentTheme } from "./theme.js";

const ASK_AGAIN_SECONDS = 10;
const LOG_IN_AGAIN = { words: "Your login has expired; log in again.", login: true };

/** @typedef {{ words: string, login: boolean }} Refusal */

/**
 * How an answer refuses its reader: our own, or that of a proxy before us which wants a login.
 * `null` for every other answer.
 * @param {Response} response @returns {Promise<Refusal | null>}
 */
export async function refusalOf(response) {
  if (response.type === "opaqueredirect") return LOG_IN_AGAIN;
  if (response.status !== 401 && response.status !== 403) return null;
  const said = await response.json().catch(() => ({}));
  return said.refused ? { words: said.error, login: said.refused === "login" } : LOG_IN_AGAIN;
}

/**
 * The page that says so. It looks whether its reader is let in again, as after a login in another
 * tab, and starts anew then. `path` is what the page asks the server for.
 * @param {Refusal} refusal @param {string} path
 */
export function refusalPage({ words, login }, path) {
  const page = document.createElement("section");
  page.className = "qs-page qs-refusal";
  page.setAttribute("aria-label", "Not shown");
  page.dataset.theme = currentTheme(document.body);
  const reason = textElement("p", words);
  reason.role = "alert";
  page.append(reason);
  if (login) {
    const link = textElement("a", "Log in", "qs-button");
    link.href = location.href;
    page.append(link);
  }
  setInterval(async () => {
    page.dataset.theme = currentTheme(page);
    if (document.hidden) return;
    const answer = await fetch(path, { redirect: "manual" }).catch(() => null);
    if (answer?.ok) location.reload();
  }, ASK_AGAIN_SECONDS * 1000);
  return page;
}
