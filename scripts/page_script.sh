#!/usr/bin/env bash
# Checks the page's script: lint, types, unit tests. Node and npm stand in .venv (uv.lock), and what
# they run in node_modules (package-lock.json); all of it is for development alone.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$project"
. scripts/environment.sh

export PATH=$project/.venv/bin:$PATH
installed=node_modules/.queuescope-lock
if ! cmp -s package-lock.json "$installed"; then
  say "Setting up node_modules from package-lock.json"
  log=$(mktemp)
  # Machines may reach npm through a proxy with a certificate of its own.
  NODE_USE_SYSTEM_CA=1 npm ci --ignore-scripts >"$log" 2>&1 </dev/null || {
    tail -n 20 "$log" >&2
    fail "the packages of package-lock.json could not be fetched from npm; the lines above say why."
  }
  rm -f "$log"
  cp package-lock.json "$installed"
fi
trap - ERR
npm run --silent check </dev/null
