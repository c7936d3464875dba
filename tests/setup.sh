#!/usr/bin/env bash
# Fetches what the end-to-end tests need beside Rust: the Node apps' packages. Without Node it says so and
# leaves; the tests that need it are then skipped, aloud (in CI they fail instead).
set -eu
cd "$(dirname "$0")/apps"
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
  echo "skipped: needs node 20 or later with npm (for tests/apps); https://nodejs.org or your package manager" >&2
  [ "${CI:-}" = true ] && exit 1
  exit 0
fi
if [ node_modules/.package-lock.json -nt package-lock.json ]; then
  exit 0
fi
npm ci --no-fund --no-audit --loglevel=error
