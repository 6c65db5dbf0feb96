// The page for a reader who may not view the dashboard, or may no longer.
import { textElement } from "./elements.js";
import { currentTheme } from "./theme.js";

const ASK_AGAIN_SECONDS = 10;
const LOG_IN_AGAIN = { words: "Your login has expired; log in again.", login: true };

/** @typedef {{ words: string, login: boolean }} Refusal */

/**
 * The refusal in an answer of our server, or of a proxy in front of it that wants a login; null for
 * every other answer.
 * @param {Response} response @returns {Promise<Refusal | null>}
 */
export async function refusalOf(response) {
  if (response.type === "opaqueredirect") return LOG_IN_AGAIN;
  if (response.status !== 401 && response.status !== 403) return null;
  const said = await response.json().catch(() => ({}));
  return said.refused ? { words: said.error, login: said.refused === "login" } : LOG_IN_AGAIN;
}

/**
 * The page itself. It asks for `path` now and then, and reloads once the reader is admitted, as after
 * a login in another tab.
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
