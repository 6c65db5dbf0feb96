import { closest } from "./elements.js";

/**
 * Opens other pages of the running application without a new document, unless they have a query.
 * @param {HTMLElement} root
 */
export function followLinks(root) {
  root.addEventListener("click", (event) => {
    const link = closest(event, "a.qs-way");
    if (!(link instanceof HTMLAnchorElement) || link.search) return;
    if (event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    const known = [...document.querySelectorAll('[data-testid="stTopNavLink"]')]
      .find((one) => one instanceof HTMLAnchorElement && one.pathname === link.pathname);
    if (!(known instanceof HTMLElement)) return;
    event.preventDefault();
    known.click();
  });
}
