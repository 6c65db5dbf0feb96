import js from "@eslint/js";
import globals from "globals";

const PAGE = "src/queuescope/dashboard/static/**/*.js";

export default [
  { ignores: ["**/vendor/", ".venv/", "data/", ".*/"] },
  { ...js.configs.recommended },
  {
    rules: {
      eqeqeq: "error",
      "no-var": "error",
      "prefer-const": ["error", { destructuring: "all" }],
      "no-shadow": "error",
      "no-implicit-globals": "error",
      "no-unused-vars": ["error", { ignoreRestSiblings: true }],
    },
  },
  {
    files: [PAGE],
    languageOptions: { globals: { ...globals.browser, Plotly: "readonly" } },
  },
  { files: ["benchmarks/*.js"], languageOptions: { globals: globals.browser } },
  { files: ["tests/**/*.js"], languageOptions: { globals: globals.node } },
];
