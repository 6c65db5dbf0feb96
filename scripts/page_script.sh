#!/usr/bin/env bash
# Checks the page's script: lint, types, unit tests. Node and npm are in .venv (uv.lock), and the
# packages that they run in node_modules (package-lock.json); all are for development only.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$project"
. scripts/environment.sh

export PATH=$project/.venv/bin:$PATH
installed=node_modules/.queuescope-lock
if ! cmp -s package-lock.json "$installed"; then
  say "Setting up node_modules from package-lock.json"
  log=$(mktemp)
  # Machines may reach npm through a proxy with its own certificate.
  NODE_USE_SYSTEM_CA=1 npm ci --ignore-scripts >"$log" 2>&1 </dev/null || {
    tail -n 20 "$log" >&2
    fail "the packages of package-lock.json could not be fetched from npm; the lines above say why."
  }
  rm -f "$log"
  cp package-lock.json "$installed"
fi
trap - ERR
npm run --silent check </dev/null
