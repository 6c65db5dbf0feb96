// The card of the signed-in user closes by a click elsewhere, and by Escape.

/** @param {EventTarget | null} [outside] */
function closeVisitor(outside) {
  const card = document.querySelector(".qs-visitor[open]");
  if (!(card instanceof HTMLDetailsElement)) return;
  if (outside instanceof Node && card.contains(outside)) return;
  card.open = false;
  if (!outside) card.querySelector("summary")?.focus();
}

export function followVisitor() {
  document.addEventListener("click", (event) => closeVisitor(event.target));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") closeVisitor();
  });
}
