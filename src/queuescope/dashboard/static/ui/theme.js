/**
 * Streamlit's theme once it is running; until then the stored choice, or the system's.
 * @param {Element} root
 */
export function currentTheme(root) {
  const background = getComputedStyle(root).getPropertyValue("--st-background-color").trim();
  const theme = themeOf(background) ?? storedTheme();
  return theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

/**
 * The theme of a background colour (#rgb, #rrggbb or rgb(…)); null for what is no colour.
 * @param {string} colour
 */
export function themeOf(colour) {
  const rgb = colour.startsWith("#")
    ? (colour.slice(1).match(colour.length > 6 ? /../g : /./g) ?? [])
      .map((digits) => parseInt(digits.padEnd(2, digits), 16))
    : (colour.match(/\d+/g) ?? []).map(Number);
  if (rgb.length < 3) return null;
  return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] < 128 ? "dark" : "light";
}

function storedTheme() {
  try {
    for (const [key, text] of Object.entries(localStorage)) {
      if (!key.startsWith("stActiveTheme")) continue;
      const name = String(JSON.parse(text)?.name ?? "").toLowerCase();
      if (name.includes("dark")) return "dark";
      if (name.includes("light")) return "light";
    }
  } catch {
    // A browser that forbids storage has no stored choice.
  }
  return null;
}
