// The card that says who looks closes like every other: by a click elsewhere, and by Escape.

function closeVisitor(outside) {
  const card = document.querySelector(".qs-visitor[open]");
  if (!card || (outside && card.contains(outside))) return;
  card.open = false;
  if (!outside) card.querySelector("summary").focus();
}

document.addEventListener("click", (event) => closeVisitor(event.target));
document.addEventListener("keydown", (event) => event.key === "Escape" && closeVisitor(null));
